-- What usage cost is given back once: by a reversal of its charge after its invoice, or by a credit note, or in part by
-- each. Of the lines of a meter on a final invoice, credit notes take off at most the share that was not reversed since.

-- Of a meter on an invoice: what its lines say in money and credits, what was credited, what was reversed since.
create function billing_given_back(p_invoice uuid, p_meter text)
returns table (amount bigint, cost bigint, credited bigint, reversed bigint) language sql stable as $$
    select coalesce(sum(l.amount), 0)::bigint, coalesce(sum(l.cost_ucr), 0)::bigint,
           (select coalesce(sum(c.amount), 0)::bigint from billing_creditnoteline c
              join billing_invoiceline o on o.id = c.line_id where o.invoice_id = p_invoice and o.meter = p_meter),
           (select coalesce(sum(u.cost_ucr), 0)::bigint from billing_invoice i
              join billing_usagerecord u on u.account_id = i.account_id and u.meter = p_meter
                   and u.billed_at >= i.period_start and u.billed_at < i.period_end
              join billing_transaction r on r.reverses_id = u.transaction_id and r.created_at > i.finalized_at
             where i.id = p_invoice)
      from billing_invoiceline l where l.invoice_id = p_invoice and l.meter = p_meter
$$;

create function billing_check_given_back(p_invoice uuid, p_meter text) returns void language plpgsql as $$
declare
    g record;
begin
    select * into g from billing_given_back(p_invoice, p_meter);
    if g.credited::numeric * g.cost > g.amount::numeric * (g.cost - g.reversed) then
        raise exception 'usage of % on invoice % would be given back twice', p_meter, p_invoice
            using errcode = 'check_violation', constraint = 'usage_is_given_back_once';
    end if;
end $$;

create function billing_check_reversal() returns trigger language plpgsql as $$
begin
    perform billing_check_given_back(affected.id, affected.meter) from (
        select distinct i.id, u.meter from billing_usagerecord u
          join billing_invoice i on i.account_id = u.account_id and i.state in ('open', 'paid', 'uncollectible')
               and u.billed_at >= i.period_start and u.billed_at < i.period_end
         where u.transaction_id = new.reverses_id and u.account_id = new.account_id and i.credited > 0) affected;
    return null;
end $$;
create trigger reversed_usage_was_not_credited after insert on billing_transaction
    for each row when (new.kind = 'reversal') execute function billing_check_reversal();

create function billing_check_credited_usage() returns trigger language plpgsql as $$
begin
    perform billing_check_given_back(l.invoice_id, l.meter) from billing_invoiceline l where l.id = new.line_id;
    return null;
end $$;
create trigger credited_usage_was_not_reversed after insert on billing_creditnoteline
    for each row execute function billing_check_credited_usage();
