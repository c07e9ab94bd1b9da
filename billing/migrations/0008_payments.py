"""Payments, refunds, payment methods, what gateways sent, automatic top-ups."""

import django.db.models.deletion
import django.db.models.expressions
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0007_wallet_arrears")]
    operations = [
        migrations.CreateModel(
            name="AutoTopUp",
            fields=[
                (
                    "account",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="auto_top_up",
                        serialize=False,
                        to="billing.account",
                    ),
                ),
                ("threshold_ucr", models.BigIntegerField()),
                ("credits_ucr", models.BigIntegerField()),
                ("last_bought_at", models.DateTimeField(blank=True, null=True)),
                ("paused_until", models.DateTimeField(blank=True, null=True)),
                ("last_error", models.CharField(blank=True, max_length=300)),
                ("created_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="GatewayWebhook",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("gateway", models.CharField(max_length=20)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("invalid", "Invalid"),
                            ("received", "Received"),
                            ("processed", "Processed"),
                            ("failed", "Failed"),
                            ("duplicate", "Duplicate"),
                        ],
                        max_length=10,
                    ),
                ),
                ("headers", models.JSONField(default=dict)),
                ("body", models.BinaryField()),
                ("event_id", models.CharField(blank=True, max_length=200)),
                ("type", models.CharField(blank=True, max_length=100)),
                ("error", models.CharField(blank=True, max_length=500)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("received_at", models.DateTimeField()),
                ("processed_at", models.DateTimeField(blank=True, null=True)),
                ("retry_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Payment",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "purpose",
                    models.CharField(
                        choices=[("top_up", "Top Up"), ("auto_top_up", "Auto Top Up"), ("invoice", "Invoice")],
                        max_length=12,
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("created", "Created"),
                            ("unknown", "Unknown"),
                            ("requires_action", "Requires action"),
                            ("processing", "Processing"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("succeeded", "Succeeded"),
                        ],
                        default="created",
                        max_length=16,
                    ),
                ),
                ("credits_ucr", models.BigIntegerField()),
                ("subtotal", models.BigIntegerField()),
                ("tax", models.BigIntegerField(default=0)),
                ("amount", models.BigIntegerField()),
                ("captured", models.BigIntegerField(default=0)),
                ("refunded", models.BigIntegerField(default=0)),
                ("refunding", models.BigIntegerField(default=0)),
                ("currency", models.CharField(max_length=3)),
                ("gateway", models.CharField(max_length=20)),
                ("gateway_ref", models.CharField(blank=True, max_length=200, null=True)),
                ("method_token", models.CharField(max_length=200)),
                ("method_label", models.CharField(max_length=80)),
                ("action_url", models.CharField(blank=True, max_length=2000)),
                ("failure_code", models.CharField(blank=True, max_length=60)),
                ("failure_message", models.CharField(blank=True, max_length=300)),
                ("key", models.CharField(max_length=300)),
                ("request_hash", models.CharField(max_length=64)),
                ("actor", models.CharField(blank=True, max_length=80)),
                ("request_id", models.CharField(blank=True, max_length=128)),
                ("ask_at", models.DateTimeField(blank=True, null=True)),
                ("asked_times", models.PositiveIntegerField(default=0)),
                ("created_at", models.DateTimeField()),
                ("settled_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="PaymentEvent",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("person", "Person"),
                            ("answer", "Answer"),
                            ("asked", "Asked"),
                            ("webhook", "Webhook"),
                            ("clock", "Clock"),
                        ],
                        max_length=10,
                    ),
                ),
                ("state", models.CharField(max_length=20)),
                (
                    "effect",
                    models.CharField(
                        choices=[("applied", "Applied"), ("ignored", "Ignored"), ("not_believed", "Not Believed")],
                        max_length=12,
                    ),
                ),
                ("detail", models.CharField(blank=True, max_length=300)),
                ("created_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="PaymentMethod",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("gateway", models.CharField(max_length=20)),
                ("token", models.CharField(max_length=200)),
                ("label", models.CharField(max_length=80)),
                ("is_default", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField()),
                ("removed_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Refund",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("created", "Created"),
                            ("unknown", "Unknown"),
                            ("processing", "Processing"),
                            ("failed", "Failed"),
                            ("succeeded", "Succeeded"),
                        ],
                        default="created",
                        max_length=16,
                    ),
                ),
                ("amount", models.BigIntegerField()),
                ("credits_ucr", models.BigIntegerField()),
                ("gateway_ref", models.CharField(blank=True, max_length=200)),
                ("reason", models.CharField(blank=True, max_length=300)),
                ("failure_code", models.CharField(blank=True, max_length=60)),
                ("failure_message", models.CharField(blank=True, max_length=300)),
                ("key", models.CharField(max_length=300)),
                ("request_hash", models.CharField(max_length=64)),
                ("actor", models.CharField(blank=True, max_length=80)),
                ("request_id", models.CharField(blank=True, max_length=128)),
                ("ask_at", models.DateTimeField(blank=True, null=True)),
                ("asked_times", models.PositiveIntegerField(default=0)),
                ("created_at", models.DateTimeField()),
                ("settled_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.AddField(
            model_name="payment",
            name="account",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="payments",
                to="billing.account",
            ),
        ),
        migrations.AddField(
            model_name="payment",
            name="grant",
            field=models.OneToOneField(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="payment",
                to="billing.grant",
            ),
        ),
        migrations.AddField(
            model_name="payment",
            name="invoice",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="payments",
                to="billing.invoice",
            ),
        ),
        migrations.AddField(
            model_name="gatewaywebhook",
            name="payment",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="webhooks",
                to="billing.payment",
            ),
        ),
        migrations.AddField(
            model_name="paymentevent",
            name="payment",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="events", to="billing.payment"
            ),
        ),
        migrations.AddField(
            model_name="paymentevent",
            name="webhook",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="events",
                to="billing.gatewaywebhook",
            ),
        ),
        migrations.AddField(
            model_name="paymentmethod",
            name="account",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="payment_methods", to="billing.account"
            ),
        ),
        migrations.AddField(
            model_name="payment",
            name="method",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="payments",
                to="billing.paymentmethod",
            ),
        ),
        migrations.AddField(
            model_name="autotopup",
            name="method",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="auto_top_ups", to="billing.paymentmethod"
            ),
        ),
        migrations.AddField(
            model_name="refund",
            name="account",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="refunds",
                to="billing.account",
            ),
        ),
        migrations.AddField(
            model_name="refund",
            name="payment",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="refunds", to="billing.payment"
            ),
        ),
        migrations.AddField(
            model_name="refund",
            name="restored",
            field=models.OneToOneField(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="refund", to="billing.grant"
            ),
        ),
        migrations.AddField(
            model_name="refund",
            name="taken",
            field=models.OneToOneField(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="refund", to="billing.transaction"
            ),
        ),
        migrations.AddField(
            model_name="paymentevent",
            name="refund",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="events",
                to="billing.refund",
            ),
        ),
        migrations.AddIndex(
            model_name="gatewaywebhook",
            index=models.Index(fields=["-received_at", "-id"], name="webhook_newest"),
        ),
        migrations.AddIndex(
            model_name="gatewaywebhook",
            index=models.Index(
                condition=models.Q(("retry_at__isnull", False)), fields=["retry_at"], name="webhook_to_retry"
            ),
        ),
        migrations.AddConstraint(
            model_name="gatewaywebhook",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ["received", "processed", "failed"])),
                fields=("gateway", "event_id"),
                name="one_webhook_per_event",
            ),
        ),
        migrations.AddConstraint(
            model_name="gatewaywebhook",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("processed_at__isnull", False), ("state", "processed")),
                    models.Q(models.Q(("state", "processed"), _negated=True), ("processed_at", None)),
                    _connector="OR",
                ),
                name="webhook_processed_has_a_time",
            ),
        ),
        migrations.AddConstraint(
            model_name="paymentmethod",
            constraint=models.UniqueConstraint(
                condition=models.Q(("removed_at", None)),
                fields=("account", "gateway", "token"),
                name="one_payment_method_per_token",
            ),
        ),
        migrations.AddConstraint(
            model_name="paymentmethod",
            constraint=models.UniqueConstraint(
                condition=models.Q(("is_default", True)), fields=("account",), name="one_default_payment_method"
            ),
        ),
        migrations.AddConstraint(
            model_name="paymentmethod",
            constraint=models.CheckConstraint(
                condition=models.Q(("is_default", False), ("removed_at", None), _connector="OR"),
                name="removed_payment_methods_are_no_default",
            ),
        ),
        migrations.AddIndex(
            model_name="payment",
            index=models.Index(fields=["account", "-created_at", "-id"], name="payment_newest"),
        ),
        migrations.AddIndex(
            model_name="payment",
            index=models.Index(
                condition=models.Q(("ask_at__isnull", False)), fields=["ask_at"], name="payment_to_ask_about"
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(fields=("account", "key"), name="one_payment_per_key"),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(fields=("gateway", "gateway_ref"), name="one_payment_per_gateway_ref"),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        (
                            "created",
                            "unknown",
                            "requires_action",
                            "processing",
                        ),
                    )
                ),
                fields=("invoice",),
                name="one_open_payment_per_invoice",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("purpose", "auto_top_up"),
                    (
                        "state__in",
                        (
                            "created",
                            "unknown",
                            "requires_action",
                            "processing",
                        ),
                    ),
                ),
                fields=("account",),
                name="one_open_auto_top_up",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "created",
                            "unknown",
                            "requires_action",
                            "processing",
                            "failed",
                            "cancelled",
                            "succeeded",
                        ],
                    )
                ),
                name="payment_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "amount",
                        django.db.models.expressions.CombinedExpression(models.F("subtotal"), "+", models.F("tax")),
                    )
                ),
                name="payment_amount_adds_up",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount__gt", 0), ("credits_ucr__gt", 0), ("subtotal__gt", 0), ("tax__gte", 0)),
                name="payment_is_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "captured__gte",
                        django.db.models.expressions.CombinedExpression(
                            models.F("refunded"), "+", models.F("refunding")
                        ),
                    ),
                    ("refunded__gte", 0),
                    ("refunding__gte", 0),
                ),
                name="payment_refunded_within_captured",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("captured", models.F("amount")), ("grant__isnull", False), ("state", "succeeded")),
                    models.Q(models.Q(("state", "succeeded"), _negated=True), ("captured", 0), ("grant", None)),
                    _connector="OR",
                ),
                name="payment_captured_and_granted_iff_succeeded",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("settled_at__isnull", False),
                        (
                            "state__in",
                            (
                                "failed",
                                "cancelled",
                                "succeeded",
                            ),
                        ),
                    ),
                    models.Q(
                        ("settled_at", None),
                        (
                            "state__in",
                            (
                                "created",
                                "unknown",
                                "requires_action",
                                "processing",
                            ),
                        ),
                    ),
                    _connector="OR",
                ),
                name="payment_settled_iff_final",
            ),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("invoice__isnull", False), ("purpose", "invoice")),
                    models.Q(models.Q(("purpose", "invoice"), _negated=True), ("invoice", None)),
                    _connector="OR",
                ),
                name="payments_of_invoices_name_them",
            ),
        ),
        migrations.AddConstraint(
            model_name="autotopup",
            constraint=models.CheckConstraint(
                condition=models.Q(("credits_ucr__gt", 0), ("threshold_ucr__gt", 0)), name="auto_top_up_is_positive"
            ),
        ),
        migrations.AddIndex(
            model_name="refund",
            index=models.Index(fields=["account", "-created_at", "-id"], name="refund_newest"),
        ),
        migrations.AddIndex(
            model_name="refund",
            index=models.Index(
                condition=models.Q(("ask_at__isnull", False)), fields=["ask_at"], name="refund_to_ask_about"
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.UniqueConstraint(fields=("payment", "key"), name="one_refund_per_key"),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "created",
                            "unknown",
                            "processing",
                            "failed",
                            "succeeded",
                        ],
                    )
                ),
                name="refund_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount__gt", 0), ("credits_ucr__gte", 0)), name="refund_is_positive"
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("credits_ucr", 0), ("taken", None)),
                    models.Q(("credits_ucr__gt", 0), ("taken__isnull", False)),
                    _connector="OR",
                ),
                name="refund_took_its_credits",
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(("restored", None), ("state", "failed"), _connector="OR"),
                name="refund_restored_only_when_failed",
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("settled_at", None),
                        (
                            "state__in",
                            (
                                "created",
                                "unknown",
                                "processing",
                            ),
                        ),
                    ),
                    models.Q(
                        models.Q(
                            (
                                "state__in",
                                (
                                    "created",
                                    "unknown",
                                    "processing",
                                ),
                            ),
                            _negated=True,
                        ),
                        ("settled_at__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="refund_settled_iff_final",
            ),
        ),
    ]
