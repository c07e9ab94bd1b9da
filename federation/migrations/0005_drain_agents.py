from django.db import migrations, models

# Taken back, an agent that was drained has changed: its event had no word of its own before.
BACKWARDS = "update federation_event set kind = 'changed' where kind = 'draining'"


class Migration(migrations.Migration):

    dependencies = [
        ('federation', '0004_guard_topology_versions'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='event',
            name='event_kind',
        ),
        migrations.AddField(
            model_name='agent',
            name='drain',
            field=models.CharField(blank=True, choices=[('', 'no'), ('stay', 'Stay'), ('leave', 'Leave')], default='', max_length=6),
        ),
        migrations.AlterField(
            model_name='event',
            name='kind',
            field=models.CharField(choices=[('created', 'Created'), ('changed', 'Changed'), ('rewired', 'Rewired'), ('joined', 'Joined'), ('draining', 'Draining'), ('left', 'Left'), ('lost', 'Lost'), ('returned', 'Returned'), ('elected', 'Elected'), ('leaderless', 'Leaderless'), ('reassigned', 'Reassigned'), ('dead', 'Dead')], max_length=12),
        ),
        migrations.AddIndex(
            model_name='agent',
            index=models.Index(condition=models.Q(('drain', 'leave'), ('left_at', None)), fields=['federation'], name='agents_about_to_leave'),
        ),
        migrations.AddConstraint(
            model_name='agent',
            constraint=models.CheckConstraint(condition=models.Q(('drain__in', ['', 'stay', 'leave'])), name='agent_drain'),
        ),
        migrations.AddConstraint(
            model_name='event',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['created', 'changed', 'rewired', 'joined', 'draining', 'left', 'lost', 'returned', 'elected', 'leaderless', 'reassigned', 'dead'])), name='event_kind'),
        ),
        migrations.RunSQL(migrations.RunSQL.noop, reverse_sql=BACKWARDS),
    ]
