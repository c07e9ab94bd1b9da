"""Managed agents sit down to their mail where their handler has an `on_message`, also handlers that had one before."""

import django.db.models.deletion
import django.db.models.expressions
import uuid_utils.compat
from django.db import migrations, models


FILL = r"update federation_handler set reads_messages = true where code ~ '(^|\n)(async )?def on_message\('"


class Migration(migrations.Migration):

    dependencies = [
        ('federation', '0016_messages_look_for_their_federation_once_a_statement'),
        ('sandboxes', '0013_budgets_of_executions'),
    ]

    operations = [
        migrations.AddField(
            model_name='deadletter',
            name='error',
            field=models.TextField(blank=True),
        ),
        migrations.AddField(
            model_name='handler',
            name='reads_messages',
            field=models.BooleanField(default=False),
        ),
        migrations.RunSQL(FILL, reverse_sql=migrations.RunSQL.noop),
        migrations.CreateModel(
            name='Sitting',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('messages', models.JSONField(blank=True, default=list)),
                ('taken', models.PositiveSmallIntegerField(default=0)),
                ('done', models.PositiveSmallIntegerField(default=0)),
                ('failed', models.PositiveSmallIntegerField(default=0)),
                ('error', models.TextField(blank=True)),
                ('started_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('metered_at', models.DateTimeField(blank=True, null=True)),
                ('cost_ucr', models.BigIntegerField(default=0)),
                ('agent', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='sittings', to='federation.agent')),
                ('execution', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='federation_sitting', to='sandboxes.execution')),
                ('handler', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='federation.handler')),
            ],
            options={
                'indexes': [models.Index(fields=['agent', '-started_at'], name='sittings_newest_first'), models.Index(condition=models.Q(('ended_at__isnull', False), ('metered_at', None)), fields=['ended_at'], name='sittings_unmetered')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('ended_at', None)), fields=('agent',), name='one_live_sitting_per_agent'), models.CheckConstraint(condition=models.Q(('taken__gte', django.db.models.expressions.CombinedExpression(models.F('done'), '+', models.F('failed')))), name='a_sitting_settles_what_it_took'), models.CheckConstraint(condition=models.Q(('cost_ucr__gte', 0)), name='sitting_cost_is_not_negative')],
            },
        ),
    ]
