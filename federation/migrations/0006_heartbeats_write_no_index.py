from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('federation', '0005_drain_agents'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='agent',
            name='agents_by_silence',
        ),
        migrations.AddIndex(
            model_name='agent',
            index=models.Index(condition=models.Q(('left_at', None), models.Q(('availability', 'lost'), _negated=True)), fields=['federation', 'position'], name='agents_linked'),
        ),
        # Room on each page, so that the new row of a heartbeat stays beside the old one.
        migrations.RunSQL(
            "alter table federation_agent set (fillfactor = 70)",
            reverse_sql="alter table federation_agent reset (fillfactor)",
        ),
    ]
