"""An agent whose lease ran out gets work last until it is heard again."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("federation", "0016_messages_look_for_their_federation_once_a_statement")]
    operations = [
        migrations.AddField(
            model_name="agent", name="doubted_at", field=models.DateTimeField(blank=True, null=True)
        )
    ]
