-- Budgets in the hot path. A wallet that no budget watches pays nothing for them: its locked row says so. Whoever
-- counts holds the wallet's lock, so spends at the same moment see each other.

drop function billing_keep_usage;
drop function billing_end_hold;
drop function billing_hold;
drop function billing_charge;
drop function billing_lock_wallet;

create function billing_lock_wallet(p_account uuid)
returns table (wallet uuid, available bigint, unheld bigint, active boolean, budgets boolean)
language sql volatile as $$
    select w.id, w.posted_ucr - w.held_ucr - w.floor_ucr, w.posted_ucr - w.held_ucr, a.status = 'active', w.has_budgets
      from billing_ledgeraccount w
      join billing_account a on a.id = w.account_id
     where w.account_id = p_account
       for update of w
$$;

-- When the budget's present period began, in the account's time zone.
create function billing_budget_period(p_period text, p_zone text, p_now timestamptz)
returns timestamptz language sql stable as $$
    select case when p_period = 'total' then timestamptz '2000-01-01 00:00:00+00'
                else date_trunc(p_period, p_now, p_zone) end
$$;

-- A UUIDv7 of a moment, for rows that only the database knows of.
create function billing_uuid7(p_now timestamptz) returns uuid language sql volatile as $$
    select encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        placing substring(int8send(floor(extract(epoch from p_now) * 1000)::bigint) from 3)
        from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
$$;

-- The counters that a spend counts on, each made when its period is new.
create function billing_budget_counters(
    p_account uuid, p_meter text, p_agent text, p_api_key text, p_now timestamptz
) returns setof billing_budgetcounter language plpgsql volatile as $$
declare
    watching uuid[];
begin
    select array_agg(b.id) into watching from billing_budget b
     where b.account_id = p_account and (b.scope = 'account' or b.target = case b.scope
           when 'meter' then nullif(p_meter, '') when 'agent' then nullif(p_agent, '')
           else nullif(p_api_key, '') end);
    if watching is null then return; end if;
    insert into billing_budgetcounter (budget_id, period_start, spent_ucr, held_ucr)
    select b.id, billing_budget_period(b.period, a.time_zone, p_now), 0, 0
      from billing_budget b join billing_account a on a.id = b.account_id
     where b.id = any (watching)
        on conflict do nothing;
    return query
    select c.* from billing_budgetcounter c
      join billing_budget b on b.id = c.budget_id join billing_account a on a.id = b.account_id
     where b.id = any (watching) and c.period_start = billing_budget_period(b.period, a.time_zone, p_now);
end $$;

-- The budget that refuses such a spend, or null.
create function billing_budget_refusal(p_counters billing_budgetcounter[], p_amount bigint)
returns uuid language sql stable as $$
    select b.id from unnest(p_counters) c join billing_budget b on b.id = c.budget_id
     where b.action = 'block' and c.spent_ucr + c.held_ucr + p_amount > b.limit_ucr
     order by b.limit_ucr, b.id limit 1
$$;

-- Write down which thresholds these counters have reached, each once; a sweep tells of them.
create function billing_budget_alerts(p_counters bigint[], p_now timestamptz)
returns void language sql volatile as $$
    insert into billing_alert
        (id, account_id, kind, budget_id, period_start, threshold, amount_ucr, limit_ucr, created_at)
    select billing_uuid7(p_now), b.account_id, 'threshold', b.id, c.period_start, t.percent::smallint, c.spent_ucr,
           b.limit_ucr, p_now
      from billing_budgetcounter c join billing_budget b on b.id = c.budget_id
     cross join lateral jsonb_array_elements_text(b.thresholds) t (percent)
     where c.id = any (p_counters) and c.spent_ucr::numeric * 100 >= b.limit_ucr::numeric * t.percent::numeric
     order by b.id, t.percent::numeric
        on conflict do nothing
$$;

-- Count a spend. Without p_enforce it is counted whatever it makes of the limit: the work was done.
create function billing_budget_spend(
    p_account uuid, p_meter text, p_agent text, p_api_key text, p_amount bigint, p_enforce boolean, p_now timestamptz
) returns uuid language plpgsql volatile as $$
declare
    counters billing_budgetcounter[];
    ids bigint[];
    refused uuid;
begin
    select array_agg(c), array_agg(c.id) into counters, ids
      from billing_budget_counters(p_account, p_meter, p_agent, p_api_key, p_now) c;
    if counters is null then return null; end if;
    if p_enforce then
        refused := billing_budget_refusal(counters, p_amount);
        if refused is not null then return refused; end if;
    end if;
    update billing_budgetcounter set spent_ucr = spent_ucr + p_amount where id = any (ids);
    perform billing_budget_alerts(ids, p_now);
    return null;
end $$;

-- Set a hold's amount aside in the budgets that watch it, and remember where.
create function billing_budget_reserve(
    p_hold uuid, p_account uuid, p_meter text, p_agent text, p_api_key text, p_amount bigint, p_now timestamptz
) returns void language plpgsql volatile as $$
begin
    insert into billing_budgetreservation (hold_id, counter_id, amount_ucr)
    select p_hold, c.id, p_amount from billing_budget_counters(p_account, p_meter, p_agent, p_api_key, p_now) c;
    update billing_budgetcounter c set held_ucr = c.held_ucr + p_amount
      from billing_budgetreservation r where r.hold_id = p_hold and r.counter_id = c.id;
end $$;

-- A hold has ended: what was captured of it is spent in the period in which it was held.
create function billing_budget_settle(p_hold uuid, p_captured bigint, p_now timestamptz)
returns void language plpgsql volatile as $$
declare
    ids bigint[];
begin
    with ended as (delete from billing_budgetreservation where hold_id = p_hold returning counter_id, amount_ucr),
         counted as (
            update billing_budgetcounter c set held_ucr = c.held_ucr - e.amount_ucr, spent_ucr = c.spent_ucr + p_captured
              from ended e where e.counter_id = c.id returning c.id)
    select array_agg(id) into ids from counted;
    if ids is not null and p_captured > 0 then perform billing_budget_alerts(ids, p_now); end if;
end $$;

-- Spend at once. outcome: ok, replay, reused, no_wallet, not_active, expire_first, insufficient, budget (then
-- `transaction` is the budget that refuses).
create function billing_charge(
    p_account uuid, p_ids uuid[], p_revenue text, p_amount bigint,
    p_source text, p_key text, p_hash text, p_description text, p_actor text, p_request_id text, p_now timestamptz,
    p_agent text default '', p_api_key text default '', p_enforce boolean default true,
    out outcome text, out transaction uuid, out available bigint, out overdraft bigint
) language plpgsql volatile as $$
declare
    w record;
    earlier record;
    refused uuid;
begin
    overdraft := 0;
    select * into w from billing_lock_wallet(p_account);
    if not found then outcome := 'no_wallet'; return; end if;
    available := w.available;
    select t.id, t.request_hash into earlier from billing_transaction t
     where t.account_id = p_account and t.source = p_source and t.key = p_key;
    if found then
        transaction := earlier.id;
        outcome := case when earlier.request_hash = p_hash then 'replay' else 'reused' end;
        return;
    elsif not w.active then
        outcome := 'not_active'; return;
    elsif billing_expiry_is_due(w.wallet, w.unheld, p_now) then
        outcome := 'expire_first'; return;
    elsif w.available < p_amount then
        outcome := 'insufficient'; return;
    end if;
    if w.budgets then
        refused := billing_budget_spend(p_account, substr(p_revenue, length('revenue:') + 1), p_agent, p_api_key,
                                        p_amount, p_enforce, p_now);
        if refused is not null then
            outcome := 'budget'; transaction := refused; return;
        end if;
    end if;
    overdraft := billing_post_spend(w.wallet, p_account, p_ids, 'charge', p_revenue, p_amount, 0,
                                    p_source, p_key, p_hash, p_description, p_actor, p_request_id, p_now);
    outcome := 'ok';
    transaction := p_ids[1];
    available := w.available - p_amount;
end $$;

-- Set credits aside. outcome: ok, replay, reused, no_wallet, not_active, expire_first, insufficient, budget (then
-- `hold` is the budget that refuses).
create function billing_hold(
    p_account uuid, p_id uuid, p_key text, p_amount bigint, p_purpose text, p_expires_at timestamptz, p_now timestamptz,
    p_meter text default '', p_agent text default '', p_api_key text default '',
    out outcome text, out hold uuid, out available bigint
) language plpgsql volatile as $$
declare
    w record;
    earlier record;
    refused uuid;
begin
    select * into w from billing_lock_wallet(p_account);
    if not found then outcome := 'no_wallet'; return; end if;
    available := w.available;
    select h.id, h.account_id, h.amount_ucr into earlier from billing_hold h where h.key = p_key;
    if found then
        hold := earlier.id;
        outcome := case when earlier.account_id = p_account and earlier.amount_ucr = p_amount
                        then 'replay' else 'reused' end;
        return;
    elsif not w.active then
        outcome := 'not_active'; return;
    elsif billing_expiry_is_due(w.wallet, w.unheld, p_now) then
        outcome := 'expire_first'; return;
    elsif w.available < p_amount then
        outcome := 'insufficient'; return;
    end if;
    if w.budgets then
        select billing_budget_refusal(array_agg(c), p_amount) into refused
          from billing_budget_counters(p_account, p_meter, p_agent, p_api_key, p_now) c;
        if refused is not null then
            outcome := 'budget'; hold := refused; return;
        end if;
    end if;
    insert into billing_hold (id, account_id, wallet_id, key, purpose, state, amount_ucr, captured_ucr, expires_at, created_at)
    values (p_id, p_account, w.wallet, p_key, p_purpose, 'active', p_amount, 0, p_expires_at, p_now);
    update billing_ledgeraccount set held_ucr = held_ucr + p_amount where id = w.wallet;
    if w.budgets then
        perform billing_budget_reserve(p_id, p_account, p_meter, p_agent, p_api_key, p_amount, p_now);
    end if;
    outcome := 'ok';
    hold := p_id;
    available := w.available - p_amount;
end $$;

-- End a hold: capture part or all of it (p_amount > 0), or let it go as p_state.
-- outcome: ok, replay, no_hold, too_much, or the state in which the hold already is (also 'expired' by the clock).
create function billing_end_hold(
    p_hold_key text, p_state text, p_ids uuid[], p_revenue text, p_amount bigint,
    p_source text, p_key text, p_hash text, p_description text, p_actor text, p_request_id text, p_now timestamptz,
    out outcome text, out transaction uuid, out overdraft bigint
) language plpgsql volatile as $$
declare
    h record;
    w record;
    owner uuid;
begin
    overdraft := 0;
    select account_id into owner from billing_hold where key = p_hold_key;
    if not found then outcome := 'no_hold'; return; end if;
    select * into w from billing_lock_wallet(owner);
    select * into h from billing_hold where key = p_hold_key;
    if h.state <> 'active' then
        outcome := h.state;
        if h.state = p_state and (p_amount = 0 or exists (
            select 1 from billing_transaction t
             where t.id = h.transaction_id and t.source = p_source and t.key = p_key and t.request_hash = p_hash))
        then
            outcome := 'replay';
            transaction := h.transaction_id;
        end if;
        return;
    end if;
    if h.expires_at <= p_now and p_state <> 'expired' then outcome := 'expired'; return; end if;
    if p_amount > h.amount_ucr then outcome := 'too_much'; return; end if;
    if p_amount > 0 then
        overdraft := billing_post_spend(h.wallet_id, h.account_id, p_ids, 'capture', p_revenue, p_amount, h.amount_ucr,
                                        p_source, p_key, p_hash, p_description, p_actor, p_request_id, p_now);
        transaction := p_ids[1];
    else
        update billing_ledgeraccount set held_ucr = held_ucr - h.amount_ucr where id = h.wallet_id;
    end if;
    if w.budgets then perform billing_budget_settle(h.id, p_amount, p_now); end if;
    update billing_hold
       set state = p_state, captured_ucr = p_amount, transaction_id = transaction, resolved_at = p_now
     where id = h.id;
    outcome := 'ok';
end $$;

-- Charge for an event and keep its record: from a hold (p_hold_key; p_cost 0 lets it go), or at once.
-- outcome: as of billing_end_hold and billing_charge; only 'ok' and 'replay' have written anything.
create function billing_keep_usage(
    p_hold_key text, p_cost bigint, p_ids uuid[], p_charge_hash text, p_description text,
    p_id uuid, p_account uuid, p_source text, p_key text, p_hash text, p_meter text, p_quantity numeric,
    p_agent text, p_properties jsonb, p_price uuid, p_period_start timestamptz, p_rated bigint,
    p_occurred_at timestamptz, p_billed_at timestamptz, p_now timestamptz,
    p_api_key text default '', p_enforce boolean default true,
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
                              p_charge_hash, p_description, '', '', p_now, p_agent, p_api_key, p_enforce) c;
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
