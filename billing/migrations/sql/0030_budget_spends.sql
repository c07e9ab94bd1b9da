-- Which counters a spend counted on, so that its reversal gives them their amount back, in the period it was counted in.
-- As in 0014, and: the transaction is written down with each counter.

drop function billing_budget_spend;
create function billing_budget_spend(
    p_account uuid, p_meter text, p_agent text, p_api_key text, p_amount bigint, p_enforce boolean, p_now timestamptz,
    p_transaction uuid
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
    insert into billing_budgetspend (transaction_id, counter_id, amount_ucr)
    select p_transaction, each, p_amount from unnest(ids) each;
    perform billing_budget_alerts(ids, p_now);
    return null;
end $$;

drop function billing_budget_settle;
create function billing_budget_settle(p_hold uuid, p_captured bigint, p_now timestamptz, p_transaction uuid)
returns void language plpgsql volatile as $$
declare
    ids bigint[];
begin
    with ended as (delete from billing_budgetreservation where hold_id = p_hold returning counter_id, amount_ucr),
         counted as (
            update billing_budgetcounter c set held_ucr = c.held_ucr - e.amount_ucr, spent_ucr = c.spent_ucr + p_captured
              from ended e where e.counter_id = c.id returning c.id)
    select array_agg(id) into ids from counted;
    if ids is null or p_captured = 0 then return; end if;
    insert into billing_budgetspend (transaction_id, counter_id, amount_ucr)
    select p_transaction, each, p_captured from unnest(ids) each;
    perform billing_budget_alerts(ids, p_now);
end $$;

-- Whoever calls them, whatever else became of it since 0014, says for which transaction.
do $$
declare
    callers constant text[] := array[
        'billing_charge', 'p_amount, p_enforce, p_now)', 'p_amount, p_enforce, p_now, p_ids[1])',
        'billing_end_hold', 'billing_budget_settle(h.id, p_amount, p_now)',
        'billing_budget_settle(h.id, p_amount, p_now, transaction)'];
    v_text text;
begin
    for at in 1 .. array_length(callers, 1) by 3 loop
        v_text := pg_get_functiondef(callers[at]::regproc);
        if array_length(string_to_array(v_text, callers[at + 1]), 1) <> 2 then
            raise exception '% does not count on budgets as it did', callers[at];
        end if;
        execute replace(v_text, callers[at + 1], callers[at + 2]);
    end loop;
end $$;

-- A transaction is reversed once, and what it counted is forgotten with it, so nothing is given back twice.
create function billing_give_budgets_back() returns trigger language plpgsql as $$
begin
    with given as (delete from billing_budgetspend where transaction_id = new.reverses_id returning counter_id, amount_ucr)
    update billing_budgetcounter c set spent_ucr = c.spent_ucr - g.amount_ucr from given g where c.id = g.counter_id;
    return null;
end $$;
create trigger reversals_give_budgets_back after insert on billing_transaction
    for each row when (new.kind = 'reversal') execute function billing_give_budgets_back();
