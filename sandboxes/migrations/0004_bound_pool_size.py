"""A pool's size is kept between its bounds by the database."""

from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):

    dependencies = [
        ("sandboxes", "0003_pool_size"),
    ]

    operations = [
        migrations.AddConstraint(
            model_name="pool",
            constraint=models.CheckConstraint(
                condition=Q(("size__gte", 1), ("size__gte", F("min_size")), ("size__lte", F("max_size"))),
                name="pool_size_is_between_min_and_max",
            ),
        ),
    ]
