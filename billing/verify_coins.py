"""Whether money on chains is where it should be, and whether all money is guarded; asked by verify.checks.

Of a transfer `units - surplus_units` counts for its quote's payment, also after the chain took it back (lost): what it
paid is not taken back by itself.
"""

from __future__ import annotations

STATEMENTS = {
    "coins_count_at_most_what_was_asked_for": """
        select q.reference from billing_coinquote q join billing_cointransfer t on t.quote_id = q.id
         where t.state in ('counted', 'lost')
         group by q.id having sum(t.units - t.surplus_units) > q.units""",
    "coins_on_their_way_count_for_nothing": """
        select id::text from billing_cointransfer
         where (state in ('seen', 'orphaned') and (surplus_units <> 0 or resolution <> ''))
            or (state = 'waiting' and surplus_units <> units)""",
    "coin_payments_succeeded_by_their_transfers": """
        select p.id::text from billing_payment p
          left join billing_coinquote q on q.reference = p.id::text
          left join billing_cointransfer t on t.quote_id = q.id and t.state in ('counted', 'lost')
         where p.gateway = 'usdc' and p.state = 'succeeded'
         group by p.id, q.id
        having q.id is null or q.amount <> p.amount or q.currency <> p.currency
            or coalesce(sum(t.units - t.surplus_units), 0) < q.units""",
    "credited_coins_granted_what_they_buy": """
        select t.id::text from billing_cointransfer t join billing_coinquote q on q.id = t.quote_id
          left join billing_payment p on p.id::text = q.reference
          left join billing_grant g on g.id = t.grant_id and g.account_id = p.account_id and g.category = 'paid'
               and g.amount_ucr = greatest(1, div(p.credits_ucr::numeric * t.surplus_units, q.units))
          left join billing_transaction w on w.id = g.transaction_id and w.source = 'coins' and w.key = t.id::text
         where (t.resolution = 'credited') <> (w.id is not null)""",
    "credits_for_coins_have_their_transfer": """
        select w.id::text from billing_transaction w
          left join billing_grant g on g.transaction_id = w.id
          left join billing_cointransfer t on t.grant_id = g.id and t.resolution = 'credited'
         where w.source = 'coins' and t.id is null""",
    "x402_payments_succeeded_by_what_was_signed": """
        select p.id::text from billing_payment p
          left join billing_x402authorization a on a.reference = p.id::text and a.account_id = p.account_id
               and a.state = 'settled' and a.amount = p.amount and a.currency = p.currency
               and a.credits_ucr = p.credits_ucr
         where p.gateway = 'x402' and p.state = 'succeeded' and a.id is null""",
    # What a foreign key says of other rows; see sql/0025.
    "rows_point_to_what_is_there": """
        select 'entry ' || e.id from billing_entry e
          left join billing_transaction t on t.id = e.transaction_id
          left join billing_ledgeraccount a on a.id = e.ledger_account_id
         where t.id is null or a.id is null
        union all
        select 'transaction ' || t.id from billing_transaction t
          left join billing_account a on a.id = t.account_id
          left join billing_transaction r on r.id = t.reverses_id
         where a.id is null or (t.reverses_id is not null and r.id is null)
        union all
        select 'usage ' || u.id from billing_usagerecord u
          left join billing_account a on a.id = u.account_id
          left join billing_price p on p.id = u.price_id
          left join billing_transaction t on t.id = u.transaction_id
         where a.id is null or p.id is null or (u.transaction_id is not null and t.id is null)""",
    # L7, beside verify's own.
    "money_is_guarded": """
        select wanted.on_table || '.' || wanted.trigger from (values
            ('billing_grant', 'given_as_it_was'), ('billing_grant', 'never_deleted'),
            ('billing_grant', 'grant_is_sound'), ('billing_ledgeraccount', 'wallet_is_sound'),
            ('billing_transaction', 'reversals_are_sound'),
            ('billing_hold', 'never_deleted'), ('billing_invoice', 'never_deleted'),
            ('billing_ledgeraccount', 'never_deleted'), ('billing_ledgeraccount', 'keeps_its_account'),
            ('billing_usagerecord', 'points_to_what_is_there'), ('billing_creditnote', 'never_deleted'),
            ('billing_payment', 'never_deleted'), ('billing_refund', 'never_deleted'),
            ('billing_dispute', 'dispute_goes_forward'), ('billing_dispute', 'never_deleted'),
            ('billing_dunningstep', 'append_only'), ('billing_invoiceseries', 'numbers_go_forward'),
            ('billing_invoiceseries', 'never_deleted'), ('billing_pricebook', 'published_book_is_fixed'),
            ('billing_pricebook', 'never_deleted'), ('billing_gatewaywebhook', 'kept_as_it_came'),
            ('billing_gatewaywebhook', 'never_deleted'), ('billing_bankstatement', 'kept_as_it_came'),
            ('billing_bankstatement', 'never_deleted'), ('billing_bankline', 'line_stays_as_it_was'),
            ('billing_bankline', 'never_deleted'), ('billing_bankmatch', 'append_only'),
            ('billing_bankmatch', 'matches_are_added'), ('billing_banktransfer', 'transfer_stays_as_it_was'),
            ('billing_banktransfer', 'never_deleted'), ('billing_bankreturn', 'sent_return_is_final'),
            ('billing_bankreturn', 'never_deleted'), ('billing_cointransfer', 'transfer_stays_as_it_came'),
            ('billing_cointransfer', 'never_deleted'), ('billing_coinquote', 'quote_stays_as_it_was'),
            ('billing_coinquote', 'never_deleted'), ('billing_x402authorization', 'signed_is_signed'),
            ('billing_x402authorization', 'never_deleted')
        ) wanted (on_table, trigger)
         where not exists (select 1 from pg_trigger t where t.tgrelid = wanted.on_table::regclass
                              and t.tgname = wanted.trigger and t.tgenabled in ('O', 'A'))""",
}
