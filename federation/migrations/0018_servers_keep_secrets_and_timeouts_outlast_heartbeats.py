"""MCP servers keep sealed secrets; agents may be silent between two heartbeats, also where they might not."""

from django.db import migrations, models


# Everyone in such a federation was lost again and again; three heartbeats are what a beat or two that went astray need.
MEND = """
update federation_federation set agent_timeout_seconds = least(3 * heartbeat_seconds, 3600)
where agent_timeout_seconds <= heartbeat_seconds
"""


class Migration(migrations.Migration):

    dependencies = [
        ('federation', '0017_managed_agents_read_their_mail'),
    ]

    operations = [
        migrations.AddField(
            model_name='mcpserver',
            name='secrets',
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.RunSQL(MEND, reverse_sql=migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name='federation',
            constraint=models.CheckConstraint(condition=models.Q(('agent_timeout_seconds__gt', models.F('heartbeat_seconds'))), name='an_agent_may_be_silent_between_heartbeats'),
        ),
    ]
