-- Which API key had something used: a hold keeps it, and so does the record of what was used.

-- As in 0025, with the key.
create or replace function billing_hold(
    p_account uuid, p_id uuid, p_key text, p_amount bigint, p_purpose text, p_expires_at timestamptz, p_now timestamptz,
    p_meter text default '', p_agent text default '', p_api_key text default '',
    out outcome text, out hold uuid, out available bigint
) language plpgsql volatile set enable_seqscan = off as $$
declare
    w record;
    earlier record;
    refused uuid;
begin
    select l.id as wallet, l.posted_ucr - l.held_ucr - l.floor_ucr as available, l.posted_ucr - l.held_ucr as unheld,
           a.status = 'active' as active, l.has_budgets as budgets
      into w
      from billing_ledgeraccount l
      join billing_account a on a.id = l.account_id
     where l.account_id = p_account
       for no key update of l;
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
    elsif w.unheld > 0 and exists (
        select 1 from billing_grant where wallet_id = w.wallet and is_open and expires_at <= p_now) then
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
    insert into billing_hold (id, account_id, wallet_id, key, purpose, state, amount_ucr, captured_ucr, expires_at, created_at, api_key)
    values (p_id, p_account, w.wallet, p_key, p_purpose, 'active', p_amount, 0, p_expires_at, p_now,
            nullif(p_api_key, '')::uuid);
    update billing_ledgeraccount set held_ucr = held_ucr + p_amount where id = w.wallet;
    if w.budgets then
        perform billing_budget_reserve(p_id, p_account, p_meter, p_agent, p_api_key, p_amount, p_now);
    end if;
    outcome := 'ok';
    hold := p_id;
    available := w.available - p_amount;
end $$;

-- As in 0014, with the key: the hold's, or the one given.
create or replace function billing_keep_usage(
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
         overdraft_ucr, transaction_id, occurred_at, billed_at, late, created_at, api_key)
    values
        (p_id, p_account, p_source, p_key, p_hash, p_meter, p_quantity, p_agent, p_properties, p_price, p_rated, p_cost,
         overdraft, transaction, p_occurred_at, p_billed_at, p_billed_at <> p_occurred_at, p_now,
         case when p_hold_key is null then nullif(p_api_key, '')::uuid
              else (select h.api_key from billing_hold h where h.key = p_hold_key) end);
end $$;
