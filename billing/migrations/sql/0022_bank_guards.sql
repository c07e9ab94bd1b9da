-- What the database itself keeps of bank transfers: sums that follow the matches, and lines that stay as the bank said.

-- A match adds to its line and its transfer, whose CHECKs refuse what is too much; whoever comes second waits for the row.
create function billing_add_bank_match() returns trigger language plpgsql as $$
declare
    v_currency text;
begin
    update billing_bankline set matched = matched + new.amount where id = new.line_id returning currency into v_currency;
    if new.transfer_id is not null then
        update billing_banktransfer set received = received + new.amount
            where id = new.transfer_id and currency = v_currency;
        if not found then
            raise exception 'transfer % is not in %', new.transfer_id, v_currency using errcode = 'restrict_violation';
        end if;
    end if;
    return new;
end $$;
create trigger matches_are_added before insert on billing_bankmatch
    for each row execute function billing_add_bank_match();
create trigger append_only before update or delete on billing_bankmatch
    for each row execute function billing_refuse_change();

create function billing_guard_bank_line() returns trigger language plpgsql as $$
begin
    if (to_jsonb(new) - 'matched' - 'tried_at') is distinct from (to_jsonb(old) - 'matched' - 'tried_at') then
        raise exception 'bank line % is as the bank said it', old.id using errcode = 'restrict_violation';
    end if;
    -- Only from within the trigger above.
    if new.matched <> old.matched and pg_trigger_depth() < 2 then
        raise exception 'what is matched of bank line % is the sum of its matches', old.id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger line_stays_as_it_was before update on billing_bankline
    for each row execute function billing_guard_bank_line();
create trigger never_deleted before delete on billing_bankline
    for each row execute function billing_refuse_change();

create function billing_guard_bank_transfer() returns trigger language plpgsql as $$
begin
    if (to_jsonb(new) - 'received' - 'cancelled_at') is distinct from (to_jsonb(old) - 'received' - 'cancelled_at')
       or (new.received <> old.received and pg_trigger_depth() < 2) then
        raise exception 'bank transfer % is as it was asked for', old.id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger transfer_stays_as_it_was before update on billing_banktransfer
    for each row execute function billing_guard_bank_transfer();
create trigger never_deleted before delete on billing_banktransfer
    for each row execute function billing_refuse_change();

-- What is sent is sent.
create function billing_guard_bank_return() returns trigger language plpgsql as $$
begin
    if old.state = 'sent' or (to_jsonb(new) - 'state' - 'sent_at' - 'sent_by')
       is distinct from (to_jsonb(old) - 'state' - 'sent_at' - 'sent_by') then
        raise exception 'bank return % is % and cannot change', old.id, old.state using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger sent_return_is_final before update on billing_bankreturn
    for each row execute function billing_guard_bank_return();
create trigger never_deleted before delete on billing_bankreturn
    for each row execute function billing_refuse_change();
