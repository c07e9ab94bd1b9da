-- The hot path of the ledger: each of these is one round trip, and holds the wallet's row lock no longer.
-- Times and new ids come from the caller (a test clock may shift "now"). What a function returns as
-- `outcome` is said in words by billing/ledger/; only 'ok' has written anything.

-- The wallet's row, locked. Everything that changes a wallet begins here, so nothing else needs an order of locks.
create function billing_lock_wallet(p_account uuid)
returns table (wallet uuid, available bigint, unheld bigint, active boolean)
language sql volatile as $$
    select w.id, w.posted_ucr - w.held_ucr - w.floor_ucr, w.posted_ucr - w.held_ucr, a.status = 'active'
      from billing_ledgeraccount w
      join billing_account a on a.id = w.account_id
     where w.account_id = p_account
       for update of w
$$;

-- An account of the house, made at its first use.
create function billing_house_account(p_code text, p_new uuid)
returns uuid language plpgsql volatile as $$
declare
    found_id uuid;
begin
    select id into found_id from billing_ledgeraccount where code = p_code;
    if found_id is null then
        insert into billing_ledgeraccount (id, code, kind, posted_ucr, held_ucr, debt_ucr, last_line)
        values (p_new, p_code, split_part(p_code, ':', 1), 0, 0, 0, 0)
        on conflict (code) do nothing;
        select id into found_id from billing_ledgeraccount where code = p_code;
    end if;
    return found_id;
end $$;

-- Credits that have passed their expiry and are not needed by a hold: they are booked before anything is spent.
create function billing_expiry_is_due(p_wallet uuid, p_unheld bigint, p_now timestamptz)
returns boolean language sql stable as $$
    select p_unheld > 0 and exists (
        select 1 from billing_grant
         where wallet_id = p_wallet and remaining_ucr > 0 and expires_at <= p_now
    )
$$;

-- Burn grants in their order; returns what no grant covered. What is held does not expire while it is held,
-- so a capture (p_held) may burn grants past their expiry.
create function billing_burn(p_wallet uuid, p_transaction uuid, p_amount bigint, p_held boolean, p_now timestamptz)
returns bigint language plpgsql volatile as $$
declare
    g record;
    need bigint := p_amount;
    take bigint;
begin
    for g in
        select id, remaining_ucr from billing_grant
         where wallet_id = p_wallet and remaining_ucr > 0
           and (p_held or expires_at is null or expires_at > p_now)
         order by priority, expires_at nulls last, created_at, id
    loop
        take := least(need, g.remaining_ucr);
        update billing_grant set remaining_ucr = remaining_ucr - take where id = g.id;
        insert into billing_grantconsumption (grant_id, transaction_id, amount_ucr)
        values (g.id, p_transaction, take);
        need := need - take;
        exit when need = 0;
    end loop;
    return need;
end $$;

-- A spend: transaction, grants burnt, wallet lowered, two legs. The wallet must be locked and checked already.
create function billing_post_spend(
    p_wallet uuid, p_account uuid, p_ids uuid[], p_kind text, p_revenue text, p_amount bigint, p_unhold bigint,
    p_source text, p_key text, p_hash text, p_description text, p_actor text, p_request_id text, p_now timestamptz
) returns bigint language plpgsql volatile as $$
declare
    uncovered bigint;
    balance bigint;
    statement_line bigint;
begin
    insert into billing_transaction
        (id, account_id, kind, source, key, request_hash, description, actor, request_id, created_at)
    values
        (p_ids[1], p_account, p_kind, p_source, p_key, p_hash, p_description, p_actor, p_request_id, p_now);
    uncovered := billing_burn(p_wallet, p_ids[1], p_amount, p_unhold > 0, p_now);
    update billing_ledgeraccount
       set posted_ucr = posted_ucr - p_amount, held_ucr = held_ucr - p_unhold,
           debt_ucr = debt_ucr + uncovered, last_line = last_line + 1
     where id = p_wallet
    returning posted_ucr, last_line into balance, statement_line;
    insert into billing_entry (id, transaction_id, ledger_account_id, amount_ucr, balance_after_ucr, line, created_at)
    values
        (p_ids[2], p_ids[1], p_wallet, -p_amount, balance, statement_line, p_now),
        (p_ids[3], p_ids[1], billing_house_account(p_revenue, p_ids[4]), p_amount, null, null, p_now);
    return uncovered;
end $$;

-- Spend at once. outcome: ok, replay, reused, no_wallet, not_active, expire_first, insufficient.
create function billing_charge(
    p_account uuid, p_ids uuid[], p_revenue text, p_amount bigint,
    p_source text, p_key text, p_hash text, p_description text, p_actor text, p_request_id text, p_now timestamptz,
    out outcome text, out transaction uuid, out available bigint, out overdraft bigint
) language plpgsql volatile as $$
declare
    w record;
    earlier record;
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
    elsif not w.active then
        outcome := 'not_active';
    elsif billing_expiry_is_due(w.wallet, w.unheld, p_now) then
        outcome := 'expire_first';
    elsif w.available < p_amount then
        outcome := 'insufficient';
    else
        overdraft := billing_post_spend(w.wallet, p_account, p_ids, 'charge', p_revenue, p_amount, 0,
                                        p_source, p_key, p_hash, p_description, p_actor, p_request_id, p_now);
        outcome := 'ok';
        transaction := p_ids[1];
        available := w.available - p_amount;
    end if;
end $$;

-- Set credits aside. outcome: ok, replay, reused, no_wallet, not_active, expire_first, insufficient.
create function billing_hold(
    p_account uuid, p_id uuid, p_key text, p_amount bigint, p_purpose text, p_expires_at timestamptz, p_now timestamptz,
    out outcome text, out hold uuid, out available bigint
) language plpgsql volatile as $$
declare
    w record;
    earlier record;
begin
    select * into w from billing_lock_wallet(p_account);
    if not found then outcome := 'no_wallet'; return; end if;
    available := w.available;
    select h.id, h.account_id, h.amount_ucr into earlier from billing_hold h where h.key = p_key;
    if found then
        hold := earlier.id;
        outcome := case when earlier.account_id = p_account and earlier.amount_ucr = p_amount
                        then 'replay' else 'reused' end;
    elsif not w.active then
        outcome := 'not_active';
    elsif billing_expiry_is_due(w.wallet, w.unheld, p_now) then
        outcome := 'expire_first';
    elsif w.available < p_amount then
        outcome := 'insufficient';
    else
        insert into billing_hold (id, account_id, wallet_id, key, purpose, state, amount_ucr, captured_ucr, expires_at, created_at)
        values (p_id, p_account, w.wallet, p_key, p_purpose, 'active', p_amount, 0, p_expires_at, p_now);
        update billing_ledgeraccount set held_ucr = held_ucr + p_amount where id = w.wallet;
        outcome := 'ok';
        hold := p_id;
        available := w.available - p_amount;
    end if;
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
    owner uuid;
begin
    overdraft := 0;
    select account_id into owner from billing_hold where key = p_hold_key;
    if not found then outcome := 'no_hold'; return; end if;
    perform 1 from billing_lock_wallet(owner);
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
    update billing_hold
       set state = p_state, captured_ucr = p_amount, transaction_id = transaction, resolved_at = p_now
     where id = h.id;
    outcome := 'ok';
end $$;
