"""Where the python pool is there already, it gets the scaling group that it is now made with."""

from django.db import migrations


def add_group(apps, schema_editor):
    groups = apps.get_model("scaling", "Group").objects
    pool = apps.get_model("sandboxes", "Pool").objects.filter(account=None, name="python").first()
    if pool is None or groups.filter(name="Python sandboxes").exists():
        return
    groups.get_or_create(
        target_type="pool",
        target_id=str(pool.pk),
        defaults={
            "name": "Python sandboxes",
            "min_size": min(2, pool.max_size),
            "max_size": pool.max_size,
            "target_backlog_seconds": 5,
        },
    )


class Migration(migrations.Migration):

    dependencies = [
        ("sandboxes", "0004_bound_pool_size"),
        ("scaling", "0001_nodes_groups_and_balancers"),
    ]

    operations = [
        migrations.RunPython(add_group, migrations.RunPython.noop),
    ]
