import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('federation', '0001_federations_agents_tasks_and_messages'),
    ]

    operations = [
        migrations.CreateModel(
            name='Reading',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('ended_at', models.DateTimeField()),
                ('shape', models.CharField(max_length=12)),
                ('members', models.PositiveIntegerField()),
                ('direct', models.PositiveIntegerField()),
                ('relayed', models.PositiveIntegerField()),
                ('broadcasts', models.PositiveIntegerField()),
                ('handed', models.PositiveIntegerField()),
                ('failures', models.PositiveIntegerField()),
                ('costs', models.JSONField()),
            ],
        ),
        migrations.CreateModel(
            name='TopologyVersion',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('version', models.PositiveIntegerField()),
                ('shape', models.CharField(max_length=12)),
                ('members', models.PositiveIntegerField()),
                ('epoch', models.PositiveIntegerField()),
                ('reason', models.CharField(max_length=300)),
                ('figures', models.JSONField(blank=True, null=True)),
                ('created_at', models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name='federation',
            name='adapted',
            field=models.CharField(blank=True, max_length=12),
        ),
        migrations.AddIndex(
            model_name='attempt',
            index=models.Index(fields=['assigned_at'], name='attempts_by_time'),
        ),
        migrations.AddConstraint(
            model_name='federation',
            constraint=models.CheckConstraint(condition=models.Q(('adapted', ''), models.Q(('adapted__in', ('mesh', 'ring', 'star', 'hierarchical')), ('topology', 'adaptive')), _connector='OR'), name='only_adaptive_federations_adapt'),
        ),
        migrations.AddField(
            model_name='reading',
            name='federation',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='readings', to='federation.federation'),
        ),
        migrations.AddField(
            model_name='topologyversion',
            name='federation',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='federation.federation'),
        ),
        migrations.AddConstraint(
            model_name='reading',
            constraint=models.UniqueConstraint(fields=('federation', 'ended_at'), name='one_reading_per_window'),
        ),
        migrations.AddConstraint(
            model_name='reading',
            constraint=models.CheckConstraint(condition=models.Q(('shape__in', ('mesh', 'ring', 'star', 'hierarchical'))), name='reading_shape'),
        ),
        migrations.AddConstraint(
            model_name='topologyversion',
            constraint=models.UniqueConstraint(fields=('federation', 'version'), name='one_wiring_per_version'),
        ),
        migrations.AddConstraint(
            model_name='topologyversion',
            constraint=models.CheckConstraint(condition=models.Q(('shape__in', ('mesh', 'ring', 'star', 'hierarchical'))), name='topology_version_shape'),
        ),
        migrations.AddConstraint(
            model_name='topologyversion',
            constraint=models.CheckConstraint(condition=models.Q(('reason', ''), _negated=True), name='topology_version_has_a_reason'),
        ),
    ]
