"""An agent whose lease ran out gets work last until it is heard again."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("federation", "0015_keep_embeddings_in_their_dimension")]
    operations = [
        migrations.AddField(
            model_name="agent", name="doubted_at", field=models.DateTimeField(blank=True, null=True)
        )
    ]
