-- What the database itself refuses of payments: another amount than was asked for, a way back, a word unsaid.

create trigger append_only before update or delete on billing_paymentevent
    for each row execute function billing_refuse_change();
create trigger never_deleted before delete on billing_payment
    for each row execute function billing_refuse_change();
create trigger never_deleted before delete on billing_refund
    for each row execute function billing_refuse_change();

-- The same order as payment_states.RANK.
create function billing_payment_rank(p_state text) returns int language sql immutable as $$
    select array_position(
        array['created', 'unknown', 'requires_action', 'processing', 'failed', 'succeeded'],
        replace(p_state, 'cancelled', 'failed'))
$$;

create function billing_guard_payment() returns trigger language plpgsql as $$
begin
    if (new.account_id, new.purpose, new.invoice_id, new.credits_ucr, new.amount, new.currency, new.gateway,
        new.method_token, new.key, new.created_at)
       is distinct from
       (old.account_id, old.purpose, old.invoice_id, old.credits_ucr, old.amount, old.currency, old.gateway,
        old.method_token, old.key, old.created_at)
       or (old.gateway_ref is not null and new.gateway_ref is distinct from old.gateway_ref) then
        raise exception 'payment % is what was asked for and cannot change', old.id using errcode = 'restrict_violation';
    end if;
    if new.state <> old.state and billing_payment_rank(new.state) <= billing_payment_rank(old.state) then
        raise exception 'payment % cannot go from % to %', old.id, old.state, new.state
            using errcode = 'restrict_violation';
    end if;
    if new.refunded < old.refunded then
        raise exception 'what payment % has given back stays given back', old.id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger payment_goes_forward before update on billing_payment
    for each row execute function billing_guard_payment();

-- An ended refund stays as it ended.
create function billing_guard_refund() returns trigger language plpgsql as $$
begin
    if old.state in ('succeeded', 'failed') or
       (new.account_id, new.payment_id, new.amount, new.credits_ucr, new.taken_id, new.key)
       is distinct from (old.account_id, old.payment_id, old.amount, old.credits_ucr, old.taken_id, old.key) then
        raise exception 'refund % is % and cannot change', old.id, old.state using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger ended_refund_is_final before update on billing_refund
    for each row execute function billing_guard_refund();
