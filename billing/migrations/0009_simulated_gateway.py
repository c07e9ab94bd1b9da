"""The books of the simulated gateway."""

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0008_payments")]
    operations = [
        migrations.CreateModel(
            name="SimulatedEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("body", models.JSONField()),
                ("copies", models.PositiveSmallIntegerField(default=1)),
                ("created_at", models.DateTimeField()),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="SimulatedPayment",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("ref", models.CharField(max_length=60, unique=True)),
                ("key", models.CharField(max_length=300, unique=True)),
                ("request_hash", models.CharField(max_length=64)),
                ("reference", models.CharField(max_length=200)),
                ("method", models.CharField(max_length=40)),
                ("state", models.CharField(max_length=16)),
                ("amount", models.BigIntegerField()),
                ("currency", models.CharField(max_length=3)),
                ("captured", models.BigIntegerField(default=0)),
                ("refunded", models.BigIntegerField(default=0)),
                ("return_url", models.CharField(blank=True, max_length=2000)),
                ("wants_capture", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="SimulatedRefund",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("ref", models.CharField(max_length=60, unique=True)),
                ("key", models.CharField(max_length=300, unique=True)),
                ("request_hash", models.CharField(max_length=64)),
                ("amount", models.BigIntegerField()),
                ("created_at", models.DateTimeField()),
            ],
        ),
        migrations.AddIndex(
            model_name="simulatedevent",
            index=models.Index(condition=models.Q(("sent_at", None)), fields=["id"], name="simulated_event_to_send"),
        ),
        migrations.AddConstraint(
            model_name="simulatedpayment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("amount__gte", models.F("captured")), ("captured__gte", models.F("refunded")), ("refunded__gte", 0)
                ),
                name="simulated_money_adds_up",
            ),
        ),
        migrations.AddField(
            model_name="simulatedrefund",
            name="payment",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="refunds", to="billing.simulatedpayment"
            ),
        ),
    ]
