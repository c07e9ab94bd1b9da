"""An agent whose lease ran out gets work last until it is heard again."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("federation", "0018_servers_keep_secrets_and_timeouts_outlast_heartbeats")]
    operations = [
        migrations.AddField(
            model_name="agent", name="doubted_at", field=models.DateTimeField(blank=True, null=True)
        )
    ]
