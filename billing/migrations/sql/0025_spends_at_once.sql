-- Spends in fewer statements, and what is checked once for all rows of a statement instead of for each. Measured: the
-- tables are small when a connection plans its first spend, and it keeps that plan, hence `enable_seqscan = off`.

-- The ordinary spend is one statement: the key is new, nothing expires first (p_may_expire) and one grant covers it.
-- False when it is not ordinary: nothing is written then. The wallet must be locked and checked already.
create function billing_spend_at_once(
    p_wallet uuid, p_house uuid, p_account uuid, p_ids uuid[], p_kind text, p_amount bigint, p_unhold bigint,
    p_may_expire boolean, p_source text, p_key text, p_hash text, p_description text, p_actor text, p_request_id text,
    p_now timestamptz
) returns boolean language plpgsql volatile as $$
begin
    with burnt as (
        update billing_grant g set remaining_ucr = g.remaining_ucr - p_amount
         -- The same order as in billing_burn.
         where g.id = (select o.id from billing_grant o
                        where o.wallet_id = p_wallet and o.is_open
                          and (p_unhold > 0 or o.expires_at is null or o.expires_at > p_now)
                        order by o.priority, o.expires_at nulls last, o.created_at, o.id limit 1)
           and g.remaining_ucr >= p_amount
           and not exists (select 1 from billing_transaction t
                            where t.account_id = p_account and t.source = p_source and t.key = p_key)
           and not (p_may_expire and exists (select 1 from billing_grant l
                                              where l.wallet_id = p_wallet and l.is_open and l.expires_at <= p_now))
        returning g.id
    ), written as (
        insert into billing_transaction
            (id, account_id, kind, source, key, request_hash, description, actor, request_id, created_at)
        select p_ids[1], p_account, p_kind, p_source, p_key, p_hash, p_description, p_actor, p_request_id, p_now
          from burnt
    ), consumed as (
        insert into billing_grantconsumption (grant_id, transaction_id, amount_ucr)
        select id, p_ids[1], p_amount from burnt
    ), taken as (
        update billing_ledgeraccount w
           set posted_ucr = w.posted_ucr - p_amount, held_ucr = w.held_ucr - p_unhold, last_line = w.last_line + 1
          from burnt where w.id = p_wallet
        returning w.posted_ucr, w.last_line
    )
    insert into billing_entry (id, transaction_id, ledger_account_id, amount_ucr, balance_after_ucr, line, created_at)
    select p_ids[2], p_ids[1], p_wallet, -p_amount, posted_ucr, last_line, p_now from taken
     union all
    select p_ids[3], p_ids[1], p_house, p_amount, null, null, p_now from taken;
    return found;
end $$;

-- As in 0004, by the grants that are open.
create or replace function billing_burn(p_wallet uuid, p_transaction uuid, p_amount bigint, p_held boolean, p_now timestamptz)
returns bigint language plpgsql volatile as $$
declare
    g record;
    need bigint := p_amount;
    take bigint;
begin
    for g in
        select id, remaining_ucr from billing_grant
         where wallet_id = p_wallet and is_open and (p_held or expires_at is null or expires_at > p_now)
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

-- As in 0014: functions in SQL are planned anew at every call before PostgreSQL 18.
create or replace function billing_budget_refusal(p_counters billing_budgetcounter[], p_amount bigint)
returns uuid language plpgsql stable as $$
begin
    return (select b.id from unnest(p_counters) c join billing_budget b on b.id = c.budget_id
             where b.action = 'block' and c.spent_ucr + c.held_ucr + p_amount > b.limit_ucr
             order by b.limit_ucr, b.id limit 1);
end $$;

create or replace function billing_budget_alerts(p_counters bigint[], p_now timestamptz)
returns void language plpgsql volatile as $$
begin
    insert into billing_alert
        (id, account_id, kind, budget_id, period_start, threshold, amount_ucr, limit_ucr, created_at)
    select billing_uuid7(p_now), b.account_id, 'threshold', b.id, c.period_start, t.percent::smallint, c.spent_ucr,
           b.limit_ucr, p_now
      from billing_budgetcounter c join billing_budget b on b.id = c.budget_id
     cross join lateral jsonb_array_elements_text(b.thresholds) t (percent)
     where c.id = any (p_counters) and c.spent_ucr::numeric * 100 >= b.limit_ucr::numeric * t.percent::numeric
     order by b.id, t.percent::numeric
        on conflict do nothing;
end $$;

-- As in 0014, with the wallet locked in place and the ordinary spend first.
create or replace function billing_charge(
    p_account uuid, p_ids uuid[], p_revenue text, p_amount bigint,
    p_source text, p_key text, p_hash text, p_description text, p_actor text, p_request_id text, p_now timestamptz,
    p_agent text default '', p_api_key text default '', p_enforce boolean default true,
    out outcome text, out transaction uuid, out available bigint, out overdraft bigint
) language plpgsql volatile set enable_seqscan = off as $$
declare
    w record;
    earlier record;
    refused uuid;
begin
    overdraft := 0;
    select l.id as wallet, l.posted_ucr - l.held_ucr - l.floor_ucr as available, l.posted_ucr - l.held_ucr as unheld,
           a.status = 'active' as active, l.has_budgets as budgets,
           (select h.id from billing_ledgeraccount h where h.code = p_revenue) as house
      into w
      from billing_ledgeraccount l
      join billing_account a on a.id = l.account_id
     where l.account_id = p_account
       for no key update of l;
    if not found then outcome := 'no_wallet'; return; end if;
    available := w.available;
    if w.active and w.available >= p_amount and not w.budgets and w.house is not null and billing_spend_at_once(
        w.wallet, w.house, p_account, p_ids, 'charge', p_amount, 0, w.unheld > 0,
        p_source, p_key, p_hash, p_description, p_actor, p_request_id, p_now)
    then
        outcome := 'ok';
        transaction := p_ids[1];
        available := w.available - p_amount;
        return;
    end if;
    select t.id, t.request_hash into earlier from billing_transaction t
     where t.account_id = p_account and t.source = p_source and t.key = p_key;
    if found then
        transaction := earlier.id;
        outcome := case when earlier.request_hash = p_hash then 'replay' else 'reused' end;
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

create or replace function billing_end_hold(
    p_hold_key text, p_state text, p_ids uuid[], p_revenue text, p_amount bigint,
    p_source text, p_key text, p_hash text, p_description text, p_actor text, p_request_id text, p_now timestamptz,
    out outcome text, out transaction uuid, out overdraft bigint
) language plpgsql volatile set enable_seqscan = off as $$
declare
    h record;
    w record;
    owner uuid;
begin
    overdraft := 0;
    select account_id into owner from billing_hold where key = p_hold_key;
    if not found then outcome := 'no_hold'; return; end if;
    select l.has_budgets as budgets, (select r.id from billing_ledgeraccount r where r.code = p_revenue) as house
      into w from billing_ledgeraccount l where l.account_id = owner for no key update;
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
    if p_amount > 0 and w.house is not null and billing_spend_at_once(
        h.wallet_id, w.house, h.account_id, p_ids, 'capture', p_amount, h.amount_ucr, false,
        p_source, p_key, p_hash, p_description, p_actor, p_request_id, p_now)
    then
        transaction := p_ids[1];
    elsif p_amount > 0 then
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

-- As in 0019, with the wallet locked in place.
create or replace function billing_usage_facts(
    p_account uuid, p_hold_key text, p_source text, p_key text, p_meter text, p_at timestamptz
) returns table (
    account uuid, status text, cadence text, time_zone text,
    hold_state text, hold_amount bigint, hold_expires_at timestamptz,
    earlier uuid, invoiced boolean,
    price uuid, book uuid, shape text, amount bigint, per numeric, minimum bigint, tiers jsonb, name text, unit text,
    totals_start timestamptz, totals_quantity numeric, totals_rated bigint
) language plpgsql volatile set enable_seqscan = off as $$
declare
    owner uuid := coalesce(p_account, (select h.account_id from billing_hold h where h.key = p_hold_key));
begin
    perform 1 from billing_ledgeraccount w where w.account_id = owner for no key update;
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
             where q.meter = p_meter and b.valid_from <= p_at and (b.valid_until is null or b.valid_until > p_at)
               and (b.account_id = owner or b.account_id is null)
             order by b.account_id nulls last, b.valid_from desc
             limit 1) p on true
      left join lateral (
            select s.period_start, s.quantity, s.rated_ucr from billing_rating s
             where s.account_id = owner and s.meter = p_meter and s.price_id = p.id and s.period_start <= p_at
             order by s.period_start desc
             limit 1) r on true
     where a.id = owner;
end $$;

drop function billing_lock_wallet;
drop function billing_expiry_is_due;

-- All legs of a transaction are written by one statement, which is refused unless they sum to zero and their
-- transaction and accounts are there.
create function billing_check_entries() returns trigger language plpgsql as $$
declare
    total numeric;
    is_one boolean;
    are_known boolean;
    wrong uuid;
begin
    select sum(n.amount_ucr), bool_and(n.transaction_id = (select o.transaction_id from written o limit 1)),
           bool_and((select t.id from billing_transaction t where t.id = n.transaction_id) is not null
                    and (select a.id from billing_ledgeraccount a where a.id = n.ledger_account_id) is not null)
      into total, is_one, are_known
      from written n;
    if not are_known then
        raise exception 'an entry needs its transaction and its account' using errcode = 'foreign_key_violation';
    end if;
    if total is null or (is_one and total = 0) then return null; end if;
    select n.transaction_id into wrong from written n group by n.transaction_id having sum(n.amount_ucr) <> 0 limit 1;
    if found then
        raise exception 'transaction % does not balance', wrong using errcode = 'check_violation';
    end if;
    return null;
end $$;
drop trigger transaction_balances on billing_entry;
drop function billing_check_balance;
create trigger transaction_balances after insert on billing_entry
    referencing new table as written for each statement execute function billing_check_entries();

-- Nor are the accounts of the ledger ever deleted, or become another's: entries point to them.
create trigger never_deleted before delete on billing_ledgeraccount
    for each row execute function billing_refuse_change();
create trigger keeps_its_account before update of id, account_id on billing_ledgeraccount
    for each row when (new.id <> old.id or new.account_id is distinct from old.account_id)
    execute function billing_refuse_change();

-- Records of usage need an account with a wallet (so neither is ever deleted), a price and, if charged, a transaction.
create function billing_check_usage() returns trigger language plpgsql as $$
begin
    if exists (
        select 1 from (select distinct account_id, price_id, transaction_id from written) n
         where (select w.id from billing_ledgeraccount w where w.account_id = n.account_id) is null
            or (select p.id from billing_price p where p.id = n.price_id) is null
            or (n.transaction_id is not null
                and (select t.id from billing_transaction t where t.id = n.transaction_id) is null))
    then
        raise exception 'a usage record needs its account, price and transaction' using errcode = 'foreign_key_violation';
    end if;
    return null;
end $$;
create trigger points_to_what_is_there after insert on billing_usagerecord
    referencing new table as written for each statement execute function billing_check_usage();

-- Spends change these rows again and again: there is room for the next version beside the last.
alter table billing_ledgeraccount set (fillfactor = 70);
alter table billing_grant set (fillfactor = 70);
