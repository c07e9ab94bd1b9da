"""A pool gets a size: how many executions run in it now. Pools that are there already begin at their maximum."""

from django.db import migrations, models
from django.db.models import F


def fill(apps, schema_editor):
    apps.get_model("sandboxes", "Pool").objects.update(size=F("max_size"))


class Migration(migrations.Migration):

    dependencies = [
        ("sandboxes", "0002_output_sizes"),
    ]

    operations = [
        migrations.AddField(
            model_name="pool",
            name="size",
            field=models.PositiveIntegerField(default=1),
            preserve_default=False,
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
