-- What the database itself refuses of coins on their way back: more than was paid, a way back, another amount.

create function billing_check_coin_refund() returns trigger language plpgsql as $$
declare
    v_paid bigint;
begin
    -- Whoever comes second waits for the row of what was paid.
    select units into v_paid from billing_coinquote where reference = new.reference for update;
    if not found then
        select units into v_paid from billing_x402authorization
         where reference = new.reference and state = 'settled' for update;
    end if;
    if coalesce(v_paid, 0) < (select sum(units) from billing_coinrefund
                               where reference = new.reference and state <> 'failed') then
        raise exception 'more than payment % took would go back', new.reference using errcode = 'check_violation';
    end if;
    return null;
end $$;
create trigger refunded_within_what_was_paid after insert on billing_coinrefund
    for each row execute function billing_check_coin_refund();

create function billing_guard_coin_refund() returns trigger language plpgsql as $$
declare
    moving constant text[] := array['state', 'tx_hash', 'recipient', 'block', 'why', 'sent_by', 'sent_at', 'settled_at'];
begin
    if old.state in ('confirmed', 'failed') or (new.state = 'pending' and old.state <> 'pending')
       or (new.state = 'confirmed' and old.state <> 'sent')
       or (to_jsonb(new) - moving) is distinct from (to_jsonb(old) - moving)
       or (new.state <> 'sent' and new.recipient <> old.recipient) then
        raise exception 'coin refund % is % and cannot become so', old.id, old.state using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger coin_refund_goes_forward before update on billing_coinrefund
    for each row execute function billing_guard_coin_refund();
create trigger never_deleted before delete on billing_coinrefund
    for each row execute function billing_refuse_change();
