-- As in 0031: what holds for no meter captured is on invoices as a line of its own, and given back once like usage.
create or replace function billing_given_back(p_invoice uuid, p_meter text)
returns table (amount bigint, cost bigint, credited bigint, reversed bigint) language sql stable as $$
    select coalesce(sum(l.amount), 0)::bigint, coalesce(sum(l.cost_ucr), 0)::bigint,
           (select coalesce(sum(c.amount), 0)::bigint from billing_creditnoteline c
              join billing_invoiceline o on o.id = c.line_id where o.invoice_id = p_invoice and o.meter = p_meter),
           (select coalesce(sum(u.cost_ucr), 0)::bigint from billing_invoice i
              join billing_usagerecord u on u.account_id = i.account_id and u.meter = p_meter
                   and u.billed_at >= i.period_start and u.billed_at < i.period_end
              join billing_transaction r on r.reverses_id = u.transaction_id and r.created_at > i.finalized_at
             where i.id = p_invoice)
         + (select coalesce(sum(e.amount_ucr), 0)::bigint from billing_invoice i
              join billing_ledgeraccount a on p_meter = 'other' and a.code = 'revenue:other'
              join billing_entry e on e.ledger_account_id = a.id
                   and e.created_at >= i.period_start and e.created_at < i.period_end
              join billing_transaction t on t.id = e.transaction_id and t.account_id = i.account_id
                   and t.kind = 'capture'
              join billing_transaction r on r.reverses_id = t.id and r.created_at > i.finalized_at
             where i.id = p_invoice)
      from billing_invoiceline l where l.invoice_id = p_invoice and l.meter = p_meter
$$;

create function billing_check_reversed_capture() returns trigger language plpgsql as $$
begin
    perform billing_check_given_back(i.id, 'other') from billing_transaction t
      join billing_invoice i on i.account_id = t.account_id and i.state in ('open', 'paid', 'uncollectible')
           and t.created_at >= i.period_start and t.created_at < i.period_end
     where t.id = new.reverses_id and t.kind = 'capture' and i.credited > 0;
    return null;
end $$;
create trigger reversed_captures_were_not_credited after insert on billing_transaction
    for each row when (new.reverses_id is not null) execute function billing_check_reversed_capture();
