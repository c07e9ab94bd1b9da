-- Metering in two round trips: what is known under the wallet's lock, then everything that is written.
-- Between them Python computes the price (billing/pricing.py): there is one rule for it, and it is not SQL.

-- What metering must know of one event, with the wallet locked until the transaction ends. The account is given, or
-- is that of a hold. No row: no such hold, or no wallet yet. `totals_*` are of the newest rating that began by p_at.
create function billing_usage_facts(
    p_account uuid, p_hold_key text, p_source text, p_key text, p_meter text, p_at timestamptz
) returns table (
    account uuid, status text, cadence text, time_zone text,
    hold_state text, hold_amount bigint, hold_expires_at timestamptz,
    earlier uuid, invoiced boolean,
    price uuid, book uuid, shape text, amount bigint, per numeric, minimum bigint, tiers jsonb, name text, unit text,
    totals_start timestamptz, totals_quantity numeric, totals_rated bigint
) language plpgsql volatile as $$
declare
    owner uuid := coalesce(p_account, (select h.account_id from billing_hold h where h.key = p_hold_key));
begin
    perform 1 from billing_lock_wallet(owner);
    if not found then return; end if;
    return query
    select a.id, a.status::text, a.billing_period::text, a.time_zone::text,
           h.state::text, h.amount_ucr, h.expires_at,
           (select u.id from billing_usagerecord u
             where u.account_id = owner and u.source = p_source and u.key = p_key),
           exists (select 1 from billing_invoice i
                    where i.account_id = owner and i.state in ('open', 'paid', 'uncollectible')
                      and i.period_end > p_at),
           p.id, p.book_id, p.shape::text, p.amount_ucr, p.per, p.minimum_ucr, p.tiers, p.name::text, p.unit::text,
           r.period_start, r.quantity, r.rated_ucr
      from billing_account a
      left join billing_hold h on h.key = p_hold_key
      left join lateral (
            select q.* from billing_price q join billing_pricebook b on b.id = q.book_id
             where q.meter = p_meter and b.valid_from <= p_at and (b.account_id = owner or b.account_id is null)
             order by b.account_id nulls last, b.valid_from desc
             limit 1) p on true
      left join lateral (
            select s.period_start, s.quantity, s.rated_ucr from billing_rating s
             where s.account_id = owner and s.meter = p_meter and s.price_id = p.id and s.period_start <= p_at
             order by s.period_start desc
             limit 1) r on true
     where a.id = owner;
end $$;

-- Charge for an event and keep its record: from a hold (p_hold_key; p_cost 0 lets it go), or at once.
-- outcome: as of billing_end_hold and billing_charge; only 'ok' and 'replay' have written anything.
create function billing_keep_usage(
    p_hold_key text, p_cost bigint, p_ids uuid[], p_charge_hash text, p_description text,
    p_id uuid, p_account uuid, p_source text, p_key text, p_hash text, p_meter text, p_quantity numeric,
    p_agent text, p_properties jsonb, p_price uuid, p_period_start timestamptz, p_rated bigint,
    p_occurred_at timestamptz, p_billed_at timestamptz, p_now timestamptz,
    out outcome text, out transaction uuid, out available bigint, out overdraft bigint
) language plpgsql volatile as $$
begin
    outcome := 'ok';
    overdraft := 0;
    if p_hold_key is not null then
        select e.outcome, e.transaction, e.overdraft into outcome, transaction, overdraft
          from billing_end_hold(p_hold_key, case when p_cost > 0 then 'captured' else 'released' end, p_ids,
                                'revenue:' || p_meter, p_cost, 'usage:' || p_source, p_key, p_charge_hash,
                                p_description, '', '', p_now) e;
    elsif p_cost > 0 then
        select c.outcome, c.transaction, c.available, c.overdraft into outcome, transaction, available, overdraft
          from billing_charge(p_account, p_ids, 'revenue:' || p_meter, p_cost, 'usage:' || p_source, p_key,
                              p_charge_hash, p_description, '', '', p_now) c;
    end if;
    if outcome not in ('ok', 'replay') then return; end if;
    insert into billing_rating as total (account_id, meter, price_id, period_start, quantity, rated_ucr)
    values (p_account, p_meter, p_price, p_period_start, p_quantity, p_rated)
    on conflict (account_id, meter, price_id, period_start)
    do update set quantity = total.quantity + excluded.quantity, rated_ucr = total.rated_ucr + excluded.rated_ucr;
    insert into billing_usagerecord
        (id, account_id, source, key, request_hash, meter, quantity, agent, properties, price_id, rated_ucr, cost_ucr,
         overdraft_ucr, transaction_id, occurred_at, billed_at, late, created_at)
    values
        (p_id, p_account, p_source, p_key, p_hash, p_meter, p_quantity, p_agent, p_properties, p_price, p_rated, p_cost,
         overdraft, transaction, p_occurred_at, p_billed_at, p_billed_at <> p_occurred_at, p_now);
end $$;
