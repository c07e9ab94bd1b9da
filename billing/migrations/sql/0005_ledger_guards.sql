-- What the database itself refuses: unbalanced transactions, changes to what has been written, changed invoices.

create function billing_refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: write a correction instead', tg_table_name using errcode = 'restrict_violation';
end $$;

create trigger append_only before update or delete on billing_entry
    for each row execute function billing_refuse_change();
create trigger append_only before update or delete on billing_transaction
    for each row execute function billing_refuse_change();
create trigger append_only before update or delete on billing_grantconsumption
    for each row execute function billing_refuse_change();
create trigger append_only before update or delete on billing_usagerecord
    for each row execute function billing_refuse_change();
create trigger append_only before update or delete on billing_price
    for each row execute function billing_refuse_change();
create trigger never_deleted before delete on billing_grant
    for each row execute function billing_refuse_change();
create trigger never_deleted before delete on billing_hold
    for each row execute function billing_refuse_change();
create trigger never_deleted before delete on billing_invoice
    for each row execute function billing_refuse_change();

-- Deferred, so that a transaction's legs may be written one after the other. Needs the index on entry(transaction_id).
create function billing_check_balance() returns trigger language plpgsql as $$
begin
    if (select sum(amount_ucr) from billing_entry where transaction_id = new.transaction_id) <> 0 then
        raise exception 'transaction % does not balance', new.transaction_id using errcode = 'check_violation';
    end if;
    return null;
end $$;
create constraint trigger transaction_balances after insert on billing_entry
    deferrable initially deferred for each row execute function billing_check_balance();

-- An ended hold stays as it ended.
create function billing_guard_hold() returns trigger language plpgsql as $$
begin
    if old.state <> 'active' or (new.account_id, new.wallet_id, new.key, new.amount_ucr, new.created_at)
       is distinct from (old.account_id, old.wallet_id, old.key, old.amount_ucr, old.created_at) then
        raise exception 'hold % is % and cannot change', old.id, old.state using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger ended_hold_is_final before update on billing_hold
    for each row execute function billing_guard_hold();

-- Of a final invoice only the state may move on (with its time and reason).
create function billing_guard_invoice() returns trigger language plpgsql as $$
declare
    moving constant text[] := array['state', 'reason', 'paid_at', 'voided_at'];
begin
    if old.state <> 'draft' and (to_jsonb(new) - moving) is distinct from (to_jsonb(old) - moving) then
        raise exception 'invoice % is final: only its state may change', old.id using errcode = 'restrict_violation';
    end if;
    if new.state <> old.state and not (
        (old.state = 'draft' and new.state in ('open', 'paid', 'void'))
        or (old.state = 'open' and new.state in ('paid', 'void', 'uncollectible'))
        or (old.state = 'uncollectible' and new.state in ('paid', 'void'))
    ) then
        raise exception 'invoice % cannot go from % to %', old.id, old.state, new.state
            using errcode = 'restrict_violation';
    end if;
    if old.state = 'draft' and new.state in ('open', 'paid') and exists (
        select 1 from billing_invoice
         where account_id = new.account_id and id <> new.id and state in ('open', 'paid', 'uncollectible')
           and period_start < new.period_end and period_end > new.period_start
    ) then
        raise exception 'the period of invoice % is invoiced already', new.id using errcode = 'exclusion_violation';
    end if;
    return new;
end $$;
create trigger final_invoice_is_fixed before update on billing_invoice
    for each row execute function billing_guard_invoice();

create function billing_guard_invoice_line() returns trigger language plpgsql as $$
begin
    if exists (select 1 from billing_invoice
                where id = case when tg_op = 'INSERT' then new.invoice_id else old.invoice_id end and state <> 'draft') then
        raise exception 'lines of a final invoice cannot change' using errcode = 'restrict_violation';
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end $$;
create trigger final_lines_are_fixed before insert or update or delete on billing_invoiceline
    for each row execute function billing_guard_invoice_line();
