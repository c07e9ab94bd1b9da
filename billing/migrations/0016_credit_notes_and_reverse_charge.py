"""Credit notes with their own numbers, accounts under reverse charge, pay-as-you-go."""

import billing.periods
import django.db.models.deletion
import django.db.models.expressions
import uuid_utils.compat
from django.db import migrations, models


# Taken back, who paid as it went along is invoiced by the month, as everybody is at first.
BACKWARDS = "update billing_account set billing_period = 'monthly' where billing_period = 'pay_as_you_go'"


class Migration(migrations.Migration):

    dependencies = [
        ("billing", "0015_dunning_and_disputes"),
    ]

    operations = [
        migrations.CreateModel(
            name='CreditNote',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('sequence', models.PositiveIntegerField()),
                ('number', models.CharField(max_length=30, unique=True)),
                ('subtotal', models.BigIntegerField()),
                ('tax', models.BigIntegerField()),
                ('total', models.BigIntegerField()),
                ('due_reduced', models.BigIntegerField()),
                ('refund_amount', models.BigIntegerField()),
                ('granted', models.BigIntegerField()),
                ('granted_ucr', models.BigIntegerField()),
                ('refund_is_due', models.BooleanField(default=False)),
                ('reason', models.CharField(max_length=300)),
                ('key', models.CharField(max_length=300)),
                ('request_hash', models.CharField(max_length=64)),
                ('actor', models.CharField(blank=True, max_length=80)),
                ('created_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='CreditNoteLine',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('amount', models.BigIntegerField()),
            ],
        ),
        migrations.AddField(
            model_name='account',
            name='reverse_charge',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='invoice',
            name='credited',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='invoice',
            name='credited_due',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='invoice',
            name='credited_due_ucr',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='invoice',
            name='tax_note',
            field=models.CharField(blank=True, max_length=300),
        ),
        migrations.AlterField(
            model_name='account',
            name='billing_period',
            field=models.CharField(choices=[('daily', 'daily'), ('weekly', 'weekly'), ('monthly', 'monthly'), ('yearly', 'yearly'), ('pay_as_you_go', 'pay_as_you_go')], default=billing.periods.Cadence['MONTHLY'], max_length=13),
        ),
        migrations.RunSQL(migrations.RunSQL.noop, reverse_sql=BACKWARDS),
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(('reverse_charge', False), models.Q(('tax_rate', 0), models.Q(('tax_id', ''), _negated=True)), _connector='OR'), name='account_reverse_charge_has_a_tax_id_and_no_tax'),
        ),
        migrations.AddConstraint(
            model_name='invoice',
            constraint=models.CheckConstraint(condition=models.Q(('credited__gte', models.F('credited_due')), ('credited__lte', models.F('total')), ('credited_due__gte', 0), ('credited_due__lte', models.F('amount_due')), ('credited_due_ucr__gte', 0), ('credited_due_ucr__lte', models.F('due_ucr'))), name='invoice_credited_at_most_what_it_says'),
        ),
        migrations.AddConstraint(
            model_name='invoice',
            constraint=models.CheckConstraint(condition=models.Q(('credited', 0), ('state__in', ['open', 'paid', 'uncollectible']), _connector='OR'), name='only_final_invoices_are_credited'),
        ),
        migrations.AddField(
            model_name='creditnote',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='credit_notes', to='billing.account'),
        ),
        migrations.AddField(
            model_name='creditnote',
            name='grant',
            field=models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='credit_note', to='billing.grant'),
        ),
        migrations.AddField(
            model_name='creditnote',
            name='invoice',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='credit_notes', to='billing.invoice'),
        ),
        migrations.AddField(
            model_name='creditnote',
            name='payment',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='credit_notes', to='billing.payment'),
        ),
        migrations.AddField(
            model_name='creditnote',
            name='refund',
            field=models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='credit_note', to='billing.refund'),
        ),
        migrations.AddField(
            model_name='creditnote',
            name='series',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='credit_notes', to='billing.invoiceseries'),
        ),
        migrations.AddField(
            model_name='creditnoteline',
            name='line',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='credited', to='billing.invoiceline'),
        ),
        migrations.AddField(
            model_name='creditnoteline',
            name='note',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='lines', to='billing.creditnote'),
        ),
        migrations.AddIndex(
            model_name='creditnote',
            index=models.Index(fields=['account', '-created_at', '-id'], name='credit_note_newest'),
        ),
        migrations.AddIndex(
            model_name='creditnote',
            index=models.Index(condition=models.Q(('refund_is_due', True)), fields=['created_at'], name='credit_note_to_refund'),
        ),
        migrations.AddConstraint(
            model_name='creditnote',
            constraint=models.UniqueConstraint(fields=('account', 'key'), name='one_credit_note_per_key'),
        ),
        migrations.AddConstraint(
            model_name='creditnote',
            constraint=models.UniqueConstraint(fields=('series', 'sequence'), name='one_credit_note_per_number'),
        ),
        migrations.AddConstraint(
            model_name='creditnote',
            constraint=models.CheckConstraint(condition=models.Q(('total', django.db.models.expressions.CombinedExpression(models.F('subtotal'), '+', models.F('tax')))), name='credit_note_total_adds_up'),
        ),
        migrations.AddConstraint(
            model_name='creditnote',
            constraint=models.CheckConstraint(condition=models.Q(('total', django.db.models.expressions.CombinedExpression(django.db.models.expressions.CombinedExpression(models.F('due_reduced'), '+', models.F('refund_amount')), '+', models.F('granted')))), name='credit_note_is_settled_in_full'),
        ),
        migrations.AddConstraint(
            model_name='creditnote',
            constraint=models.CheckConstraint(condition=models.Q(('due_reduced__gte', 0), ('refund_amount__gte', 0), ('subtotal__gte', 0), ('tax__gte', 0), ('total__gt', 0), ('granted__gte', 0), ('granted_ucr__gte', 0)), name='credit_note_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='creditnote',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('grant', None), ('granted_ucr', 0)), models.Q(('grant__isnull', False), ('granted_ucr__gt', 0)), _connector='OR'), name='credit_note_gave_its_credits'),
        ),
        migrations.AddConstraint(
            model_name='creditnote',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('payment', None), ('refund', None), ('refund_amount', 0), ('refund_is_due', False)), models.Q(('payment__isnull', False), ('refund_amount__gt', 0)), _connector='OR'), name='credit_note_refunds_a_payment'),
        ),
        migrations.AddConstraint(
            model_name='creditnoteline',
            constraint=models.UniqueConstraint(fields=('note', 'line'), name='one_credit_per_note_and_line'),
        ),
        migrations.AddConstraint(
            model_name='creditnoteline',
            constraint=models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='credit_note_line_is_positive'),
        ),
    ]
