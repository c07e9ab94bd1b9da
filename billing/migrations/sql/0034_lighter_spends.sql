-- Guards of what a spend never changes, as triggers: every spend reads the text of its tables' CHECKs anew, and looks
-- each row of a foreign key up for itself. Measured: both together took a tenth of a charge.

-- A trigger's condition says what is wrong, its name which rule that is.
create function billing_refuse_row() returns trigger language plpgsql as $$
begin
    raise exception 'new row for "%" violates "%"', tg_table_name, tg_name
        using errcode = 'check_violation', constraint = tg_name, table = tg_table_name;
end $$;

create trigger wallet_is_sound before insert or update of kind, account_id, floor_ucr, debt_ucr, arrears_ucr
    on billing_ledgeraccount for each row
    when (not (new.debt_ucr >= 0 and new.arrears_ucr >= 0 and coalesce(new.floor_ucr, 0) <= 0
               and (new.kind = 'wallet') = (new.account_id is not null)
               and (new.kind = 'wallet') = (new.floor_ucr is not null)))
    execute function billing_refuse_row();
-- Afterwards `given_as_it_was` lets neither change.
create trigger grant_is_sound before insert on billing_grant for each row
    when (not (new.amount_ucr > 0 and new.priority between 0 and 100)) execute function billing_refuse_row();

-- As in 0025, each row that all legs share looked up once; and a transaction's account is there, since it has a wallet.
create or replace function billing_check_entries() returns trigger language plpgsql as $$
declare
    total numeric;
    is_one boolean;
    are_known boolean;
    wrong uuid;
begin
    select sum(n.amount_ucr), bool_and(n.transaction_id = (select o.transaction_id from written o limit 1)),
           bool_and((select a.id from billing_ledgeraccount a where a.id = n.ledger_account_id) is not null)
           and (select t.id from billing_transaction t join billing_ledgeraccount w on w.account_id = t.account_id
                 where t.id = (select o.transaction_id from written o limit 1)) is not null
      into total, is_one, are_known
      from written n;
    if total is null or (is_one and are_known and total = 0) then return null; end if;
    if not are_known or exists (
        select 1 from written n
         where not exists (select 1 from billing_transaction t join billing_ledgeraccount w on w.account_id = t.account_id
                            where t.id = n.transaction_id))
    then
        raise exception 'an entry needs its transaction and its account' using errcode = 'foreign_key_violation';
    end if;
    select n.transaction_id into wrong from written n group by n.transaction_id having sum(n.amount_ucr) <> 0 limit 1;
    if found then
        raise exception 'transaction % does not balance', wrong using errcode = 'check_violation';
    end if;
    return null;
end $$;

-- As in 0030 and 0031, in one trigger whose condition is short; and what is reversed is there.
drop trigger reversals_give_budgets_back on billing_transaction;
drop trigger reversed_usage_was_not_credited on billing_transaction;
drop function billing_give_budgets_back;
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
    -- A transaction is reversed once, and what it counted is forgotten with it, so nothing is given back twice.
    with given as (delete from billing_budgetspend where transaction_id = new.reverses_id returning counter_id, amount_ucr)
    update billing_budgetcounter c set spent_ucr = c.spent_ucr - g.amount_ucr from given g where c.id = g.counter_id;
    return null;
end $$;
create trigger reversals_are_sound after insert on billing_transaction
    for each row when (new.reverses_id is not null) execute function billing_check_reversal();
