"""Matches that are undone, what they reopen, and the guards that permit exactly that; see sql/0028_bank_undos.sql."""

from pathlib import Path

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models

SQL = Path(__file__).parent / "sql"

# The guards as they were.
BEFORE = {
    "billing_guard_payment": "0010_payment_guards.sql",
    "billing_guard_invoice": "0017_credit_note_guards.sql",
    "billing_guard_bank_return": "0022_bank_guards.sql",
}


def _before(name: str, file: str) -> str:
    text = (SQL / file).read_text()
    return f"create or replace {text[text.index(f'function {name}()') :].split('$$;')[0]}$$;\n"


# Taken back, a match that was undone is as if it had never been. Not one that had made a payment succeed: its credits were
# taken back, which nothing would know any more, so the books would be wrong.
REVERSE = """
set constraints all immediate;
do $$ begin
    if exists (select 1 from billing_bankundo where payment_id is not null) then
        raise exception 'Bank matches that had paid something are undone. No version before can keep that: '
            'go back by a backup from before.' using errcode = 'restrict_violation';
    end if;
end $$;
drop trigger append_only on billing_bankundo;
alter table billing_bankmatch disable trigger append_only;
alter table billing_bankreturn disable trigger never_deleted;
with undone as (delete from billing_bankundo returning match_id),
     dropped as (delete from billing_bankreturn where match_id in (select match_id from undone))
delete from billing_bankmatch where id in (select match_id from undone);
alter table billing_bankmatch enable trigger append_only;
alter table billing_bankreturn enable trigger never_deleted;
drop function billing_take_bank_match_off cascade;
""" + "".join(_before(*each) for each in BEFORE.items())


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0027_dispute_evidence'),
    ]

    operations = [
        migrations.CreateModel(
            name='BankUndo',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('turn', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('actor', models.CharField(max_length=80)),
                ('reason', models.CharField(max_length=300)),
                ('created_at', models.DateTimeField()),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='bankreturn',
            name='bank_return_sent_iff_it_has_a_time',
        ),
        migrations.AddField(
            model_name='invoice',
            name='paid_with',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='paid_invoices', to='billing.payment'),
        ),
        migrations.AddField(
            model_name='payment',
            name='reopened',
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='bankreturn',
            name='state',
            field=models.CharField(choices=[('due', 'Due'), ('sent', 'Sent'), ('dropped', 'Dropped')], default='due', max_length=8),
        ),
        migrations.AddConstraint(
            model_name='bankreturn',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('sent_at__isnull', False), ('state', 'sent')), models.Q(('sent_at', None), ('state__in', ['due', 'dropped'])), _connector='OR'), name='bank_return_sent_iff_it_has_a_time'),
        ),
        migrations.AddConstraint(
            model_name='invoice',
            constraint=models.CheckConstraint(condition=models.Q(('paid_with', None), ('state', 'paid'), _connector='OR'), name='only_paid_invoices_are_paid_with_something'),
        ),
        migrations.AddField(
            model_name='bankundo',
            name='grant',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='bank_undo', to='billing.grant'),
        ),
        migrations.AddField(
            model_name='bankundo',
            name='match',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='undo', to='billing.bankmatch'),
        ),
        migrations.AddField(
            model_name='bankundo',
            name='payment',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='bank_undos', to='billing.payment'),
        ),
        migrations.AddField(
            model_name='bankundo',
            name='taken',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='bank_undo', to='billing.transaction'),
        ),
        migrations.AddConstraint(
            model_name='bankundo',
            constraint=models.UniqueConstraint(fields=('payment', 'turn'), name='one_bank_undo_per_turn'),
        ),
        migrations.AddConstraint(
            model_name='bankundo',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('grant', None), ('payment', None), ('taken', None), ('turn', None)), models.Q(('grant__isnull', False), ('payment__isnull', False), ('taken__isnull', False), ('turn__gt', 0)), _connector='OR'), name='bank_undo_of_a_success_took_its_credits'),
        ),
        migrations.RunSQL((SQL / "0028_bank_undos.sql").read_text(), reverse_sql=REVERSE),
    ]
