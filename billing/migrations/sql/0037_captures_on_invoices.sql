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
              join billing_transaction t on p_meter = 'other' and t.account_id = i.account_id and t.kind = 'capture'
                   and t.created_at >= i.period_start and t.created_at < i.period_end
              join billing_transaction r on r.reverses_id = t.id and r.created_at > i.finalized_at
              join billing_entry e on e.transaction_id = t.id
              join billing_ledgeraccount a on a.id = e.ledger_account_id and a.code = 'revenue:other'
             where i.id = p_invoice)
      from billing_invoiceline l where l.invoice_id = p_invoice and l.meter = p_meter
$$;

-- As in 0034, with such captures.
create or replace function billing_check_reversal() returns trigger language plpgsql as $$
begin
    if not exists (select 1 from billing_transaction t where t.id = new.reverses_id) then
        raise exception 'a reversal needs the transaction that it reverses' using errcode = 'foreign_key_violation';
    end if;
    perform billing_check_given_back(affected.id, affected.meter) from (
        select distinct i.id, u.meter from billing_usagerecord u
          join billing_invoice i on i.account_id = u.account_id and i.state in ('open', 'paid', 'uncollectible')
               and u.billed_at >= i.period_start and u.billed_at < i.period_end
         where u.transaction_id = new.reverses_id and u.account_id = new.account_id and i.credited > 0) affected;
    perform billing_check_given_back(i.id, 'other') from billing_transaction t
      join billing_invoice i on i.account_id = t.account_id and i.state in ('open', 'paid', 'uncollectible')
           and t.created_at >= i.period_start and t.created_at < i.period_end
     where t.id = new.reverses_id and t.kind = 'capture' and i.credited > 0;
    -- A transaction is reversed once, and what it counted is forgotten with it, so nothing is given back twice.
    with given as (delete from billing_budgetspend where transaction_id = new.reverses_id returning counter_id, amount_ucr)
    update billing_budgetcounter c set spent_ucr = c.spent_ucr - g.amount_ucr from given g where c.id = g.counter_id;
    return null;
end $$;
