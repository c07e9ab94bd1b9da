"""Whether the books are right: every invariant by name, each one question to the database.

Each statement finds what breaks the invariant; the ledger is right when none finds anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from billing import amounts, pricing, verify_coins
from billing.models import Rating

BROKEN_SHOWN = 5


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str


STATEMENTS = {
    # L1, L2
    "transactions_balance": """
        select transaction_id::text from billing_entry group by transaction_id having sum(amount_ucr) <> 0""",
    "transactions_have_two_legs": """
        select t.id::text from billing_transaction t
         where (select count(*) from billing_entry e where e.transaction_id = t.id) < 2""",
    "ledger_sums_to_zero": "select sum(amount_ucr)::text from billing_entry having sum(amount_ucr) <> 0",
    # L3
    "wallet_posted_is_the_sum_of_its_entries": """
        select w.code from billing_ledgeraccount w
          left join billing_entry e on e.ledger_account_id = w.id
         where w.kind = 'wallet' group by w.id having w.posted_ucr <> coalesce(sum(e.amount_ucr), 0)""",
    "wallet_held_is_the_sum_of_active_holds": """
        select w.code from billing_ledgeraccount w
          left join billing_hold h on h.wallet_id = w.id and h.state = 'active'
         where w.kind = 'wallet' group by w.id having w.held_ucr <> coalesce(sum(h.amount_ucr), 0)""",
    "statements_run_without_gaps": """
        select code from (
            select w.code, e.line, e.balance_after_ucr - e.amount_ucr as before,
                   lag(e.line, 1, 0::bigint) over statement as line_before,
                   lag(e.balance_after_ucr, 1, 0::bigint) over statement as balance_before
              from billing_entry e join billing_ledgeraccount w on w.id = e.ledger_account_id and w.kind = 'wallet'
            window statement as (partition by w.id order by e.line)
        ) lines where line <> line_before + 1 or before <> balance_before""",
    # L4
    "wallets_are_above_their_floor": """
        select code from billing_ledgeraccount
         where kind = 'wallet' and (posted_ucr - held_ucr < floor_ucr - arrears_ucr or arrears_ucr > debt_ucr)""",
    # What triggers hold of rows that a spend changes (sql/0034), asked again, since they do not look at what was there.
    "wallets_and_grants_are_sound": """
        select code from billing_ledgeraccount
         where debt_ucr < 0 or arrears_ucr < 0 or floor_ucr > 0
            or (kind = 'wallet') <> (account_id is not null) or (kind = 'wallet') <> (floor_ucr is not null)
        union all
        select id::text from billing_grant where amount_ucr <= 0 or priority not between 0 and 100""",
    # L5
    "grants_and_debt_make_up_the_wallet": """
        select w.code from billing_ledgeraccount w left join billing_grant g on g.wallet_id = w.id
         where w.kind = 'wallet' group by w.id
        having w.posted_ucr + w.debt_ucr <> coalesce(sum(g.remaining_ucr), 0)""",
    # L6
    "grants_are_used_up_to_their_amount": """
        select g.id::text from billing_grant g left join billing_grantconsumption c on c.grant_id = g.id
         group by g.id having g.amount_ucr - g.remaining_ucr <> coalesce(sum(c.amount_ucr), 0)""",
    "holds_are_captured_up_to_their_amount": """
        select h.id::text from billing_hold h
          left join billing_entry e on e.transaction_id = h.transaction_id and e.ledger_account_id = h.wallet_id
         where h.captured_ucr > h.amount_ucr or h.captured_ucr <> -coalesce(e.amount_ucr, 0)""",
    # L7
    "written_rows_are_guarded": """
        select wanted.on_table || '.' || wanted.trigger from (values
            ('billing_entry', 'append_only'), ('billing_transaction', 'append_only'),
            ('billing_grantconsumption', 'append_only'), ('billing_usagerecord', 'append_only'),
            ('billing_price', 'append_only'), ('billing_entry', 'transaction_balances'),
            ('billing_hold', 'ended_hold_is_final'), ('billing_invoice', 'final_invoice_is_fixed'),
            ('billing_invoiceline', 'final_lines_are_fixed'), ('billing_creditnote', 'issued_note_is_fixed'),
            ('billing_creditnoteline', 'append_only'), ('billing_paymentevent', 'append_only'),
            ('billing_payment', 'payment_goes_forward'), ('billing_refund', 'ended_refund_is_final'),
            ('billing_bankmatch', 'append_only'), ('billing_bankundo', 'append_only')
        ) wanted (on_table, trigger)
         where not exists (select 1 from pg_trigger t where t.tgrelid = wanted.on_table::regclass
                              and t.tgname = wanted.trigger and t.tgenabled in ('O', 'A'))""",
    # L8
    "keys_are_used_once": """
        select source || ' ' || key from billing_transaction group by account_id, source, key having count(*) > 1""",
    # L9
    "usage_is_charged_once": """
        select u.first from (
            select account_id, transaction_id, sum(cost_ucr) as cost_ucr, min(id::text) as first
              from billing_usagerecord group by account_id, transaction_id) u
          left join billing_transaction t on t.id = u.transaction_id and t.account_id = u.account_id
          left join billing_ledgeraccount w on w.account_id = u.account_id
          left join billing_entry e on e.transaction_id = t.id and e.ledger_account_id = w.id
         where u.cost_ucr <> -coalesce(e.amount_ucr, 0)""",
    # L10
    "invoices_add_up": """
        select i.id::text from billing_invoice i left join billing_invoiceline l on l.invoice_id = i.id
         group by i.id
        having i.subtotal <> coalesce(sum(l.amount), 0) or i.total <> i.subtotal + i.tax
            or i.amount_due <> i.total - i.credits_applied""",
    "invoice_numbers_have_no_gaps": """
        select s.prefix || s.year from billing_invoiceseries s
          left join (select id, series_id, sequence from billing_invoice
                     union all select id, series_id, sequence from billing_creditnote) i on i.series_id = s.id
         group by s.id
        having count(i.id) <> s.last_number or coalesce(max(i.sequence), 0) <> s.last_number""",
    "credit_notes_take_off_what_they_say": """
        select c.number from billing_creditnote c left join billing_creditnoteline l on l.note_id = c.id
         group by c.id having c.subtotal <> coalesce(sum(l.amount), 0)
        union all
        select i.id::text from billing_invoice i left join billing_creditnote c on c.invoice_id = i.id
         group by i.id
        having i.credited <> coalesce(sum(c.total), 0) or coalesce(sum(c.tax), 0) > i.tax""",
    "no_line_is_credited_beyond_its_amount": """
        select i.number from billing_creditnoteline c join billing_invoiceline l on l.id = c.line_id
          join billing_invoice i on i.id = l.invoice_id
         group by i.id, l.id having sum(c.amount) > l.amount""",
    "credit_notes_gave_their_credits": """
        select c.number from billing_creditnote c
          left join billing_grant g on g.id = c.grant_id and g.account_id = c.account_id
         where c.granted_ucr <> coalesce(g.amount_ucr, 0)""",
    "usage_is_given_back_once": """
        select i.number || ' ' || l.meter from billing_invoice i
          join (select distinct invoice_id, meter from billing_invoiceline) l on l.invoice_id = i.id
         cross join lateral billing_given_back(i.id, l.meter) g
         where i.credited > 0 and g.credited::numeric * g.cost > g.amount::numeric * (g.cost - g.reversed)""",
    "final_periods_do_not_overlap": """
        select a.number from billing_invoice a join billing_invoice b
            on a.account_id = b.account_id and a.id < b.id
           and a.period_start < b.period_end and b.period_start < a.period_end
         where a.state in ('open', 'paid', 'uncollectible') and b.state in ('open', 'paid', 'uncollectible')""",
    # L11
    "final_invoices_hold_the_usage_of_their_period": """
        select i.number from billing_invoice i where i.state in ('open', 'paid', 'uncollectible')
           and (select coalesce(sum(l.cost_ucr), 0) from billing_invoiceline l
                 where l.invoice_id = i.id and l.meter <> 'other')
            <> (select coalesce(sum(u.cost_ucr), 0) from billing_usagerecord u
                 where u.account_id = i.account_id and u.billed_at >= i.period_start and u.billed_at < i.period_end
                   and not exists (select 1 from billing_transaction r
                                    where r.reverses_id = u.transaction_id and r.created_at <= i.finalized_at))""",
    # Invoices of before November 2026 have no such line.
    "final_invoices_hold_what_was_captured": """
        select i.number from billing_invoice i join billing_invoiceline l on l.invoice_id = i.id and l.meter = 'other'
         where i.state in ('open', 'paid', 'uncollectible')
           and l.cost_ucr <> (select coalesce(-sum(w.amount_ucr), 0) from billing_transaction t
                 join billing_entry e on e.transaction_id = t.id
                 join billing_ledgeraccount a on a.id = e.ledger_account_id and a.code = 'revenue:other'
                 join billing_entry w on w.transaction_id = t.id and w.line is not null
                where t.account_id = i.account_id and t.kind = 'capture'
                  and t.created_at >= i.period_start and t.created_at < i.period_end
                  and not exists (select 1 from billing_transaction r
                                   where r.reverses_id = t.id and r.created_at <= i.finalized_at))""",
    # Payments
    "succeeded_payments_granted_what_they_bought": """
        select p.id::text from billing_payment p
          left join billing_grant g on g.id = p.grant_id and g.account_id = p.account_id and g.category = 'paid'
                                   and g.amount_ucr = p.credits_ucr
          left join billing_transaction t on t.id = g.transaction_id and t.source = 'payments' and t.key = p.id::text
                                             || case when p.reopened > 0 then ':' || p.reopened else '' end
         where (p.state = 'succeeded') <> (t.id is not null)""",
    "credits_bought_have_their_payment": """
        select g.id::text from billing_grant g join billing_transaction t on t.id = g.transaction_id
          left join billing_payment p on p.grant_id = g.id and p.state = 'succeeded'
          left join billing_bankundo b on b.grant_id = g.id
         where t.source = 'payments' and (p.id is null) = (b.id is null)""",
    "credits_bought_sum_to_the_payments": """
        select 'granted ' || granted || ', paid for ' || paid from (
            select (select coalesce(sum(g.amount_ucr), 0) from billing_grant g
                      join billing_transaction t on t.id = g.transaction_id where t.source = 'payments'
                       and not exists (select 1 from billing_bankundo b where b.grant_id = g.id)) as granted,
                   (select coalesce(sum(p.credits_ucr), 0) from billing_payment p
                     where p.state = 'succeeded') as paid) sums
         where granted <> paid""",
    "undone_bank_matches_took_what_was_granted": """
        select b.id::text from billing_bankundo b join billing_grant g on g.id = b.grant_id
          left join billing_ledgeraccount w on w.account_id = g.account_id
          left join billing_entry e on e.transaction_id = b.taken_id and e.ledger_account_id = w.id
         where g.amount_ucr <> -coalesce(e.amount_ucr, 0)
        union all
        select p.id::text from billing_payment p left join billing_bankundo b on b.payment_id = p.id
         group by p.id having p.reopened <> count(b.id)""",
    "bank_lines_and_transfers_are_what_their_matches_say": """
        select l.id::text from billing_bankline l left join billing_bankmatch m on m.line_id = l.id
          left join billing_bankundo b on b.match_id = m.id
         group by l.id having l.matched <> coalesce(sum(m.amount) filter (where b.id is null), 0)
        union all
        select t.id::text from billing_banktransfer t left join billing_bankmatch m on m.transfer_id = t.id
          left join billing_bankundo b on b.match_id = m.id
         group by t.id having t.received <> coalesce(sum(m.amount) filter (where b.id is null), 0)""",
    "refunds_add_up_to_what_was_refunded": """
        select p.id::text from billing_payment p left join billing_refund r on r.payment_id = p.id
         group by p.id
        having p.refunded <> coalesce(sum(r.amount) filter (where r.state = 'succeeded'), 0)
            or p.refunding <> coalesce(sum(r.amount) filter (where r.state not in ('succeeded', 'failed')), 0)
            or p.refunded + p.refunding > p.captured""",
    "refunds_took_back_what_they_say": """
        select r.id::text from billing_refund r
          left join billing_ledgeraccount w on w.account_id = r.account_id
          left join billing_entry e on e.transaction_id = r.taken_id and e.ledger_account_id = w.id
          left join billing_transaction undone on undone.reverses_id = r.taken_id
          left join billing_grant g on g.transaction_id = undone.id and g.id = r.restored_id
         where r.credits_ucr <> -coalesce(e.amount_ucr, 0)
            or (r.state = 'failed' and r.credits_ucr > 0) <> (undone.id is not null)
            or (undone.id is not null and (g.id is null or g.amount_ucr <> r.credits_ucr))""",
    "disputes_add_up_to_what_is_disputed": """
        select p.id::text from billing_payment p left join billing_dispute d on d.payment_id = p.id and d.state <> 'won'
         group by p.id having p.disputed <> coalesce(sum(d.amount), 0)""",
    "disputes_took_what_they_say": """
        select d.id::text from billing_dispute d
          left join billing_ledgeraccount w on w.account_id = d.account_id
          left join billing_entry e on e.transaction_id = d.taken_id and e.ledger_account_id = w.id
          left join billing_entry r on r.transaction_id = d.rest_id and r.ledger_account_id = w.id
          left join billing_grant g on g.id = d.restored_id
         where d.taken_ucr <> -coalesce(e.amount_ucr, 0)
            or (d.state = 'lost' and d.credits_ucr <> -coalesce(e.amount_ucr, 0) - coalesce(r.amount_ucr, 0))
            or (d.state = 'won' and d.taken_ucr <> coalesce(g.amount_ucr, 0))""",
    "kept_cards_are_their_accounts": """
        select m.id::text from billing_paymentmethod m
          join billing_stripecustomer c on c.customer_id = split_part(m.token, ':', 1)
         where m.gateway = 'stripe' and m.account_id <> c.account_id
        union all
        select s.id::text from billing_cardsetup s join billing_paymentmethod m on m.id = s.method_id
         where m.account_id <> s.account_id""",
    # Budgets
    "budgets_hold_what_their_holds_reserve": """
        select c.id::text from billing_budgetcounter c
          left join billing_budgetreservation r on r.counter_id = c.id
         group by c.id having c.held_ucr <> coalesce(sum(r.amount_ucr), 0)
        union all
        select r.id::text from billing_budgetreservation r join billing_hold h on h.id = r.hold_id
         where h.state <> 'active'""",
    "budgets_counted_what_they_may_give_back": """
        select c.id::text from billing_budgetcounter c join billing_budgetspend s on s.counter_id = c.id
         group by c.id having c.spent_ucr < sum(s.amount_ucr)
        union all
        select s.id::text from billing_budgetspend s
          join billing_transaction r on r.reverses_id = s.transaction_id""",
    "wallets_know_whether_budgets_watch_them": """
        select w.code from billing_ledgeraccount w
         where w.has_budgets <> exists (select 1 from billing_budget b where b.account_id = w.account_id)""",
    "open_payments_are_asked_about": """
        select id::text from billing_payment
         where (state in ('created', 'unknown', 'requires_action', 'processing')) <> (ask_at is not null)
        union all
        select id::text from billing_refund
         where (state in ('created', 'unknown', 'processing')) <> (ask_at is not null)""",
}

STATEMENTS |= verify_coins.STATEMENTS


def checks() -> list[Check]:
    """Every invariant, asked of one snapshot."""
    found = []
    with connection.cursor() as cursor:
        for name, statement in STATEMENTS.items():
            cursor.execute(statement)
            found.append(_check(name, [str(row[0]) for row in cursor.fetchall()]))
    found.append(_check("rated_totals_are_the_price_of_the_total", _wrong_ratings()))
    return found


def _wrong_ratings() -> list[str]:
    """L9: what was rated is the price of the whole quantity (a volume price may have been dearer before)."""
    wrong = []
    for rating in Rating.objects.select_related("price").iterator():
        price = amounts.half_even(rating.price.rule().exact(rating.quantity))
        is_volume = rating.price.shape == pricing.Shape.VOLUME
        if rating.rated_ucr != price and not (is_volume and rating.rated_ucr > price):
            wrong.append(f"{rating.meter} of {rating.account_id}")
    return wrong


def _check(name: str, broken: list[str]) -> Check:
    if not broken:
        return Check(name, ok=True, detail="")
    shown = ", ".join(broken[:BROKEN_SHOWN])
    more = f" and {len(broken) - BROKEN_SHOWN} more" if len(broken) > BROKEN_SHOWN else ""
    return Check(name, ok=False, detail=f"{len(broken)} broken: {shown}{more}")
