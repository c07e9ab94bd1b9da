-- What the database itself refuses of money that no trigger guarded so far: coins, authorisations, disputes, reminders,
-- what gateways sent, files of the bank, numbers; and what a grant or an account of the ledger is.

-- A transfer is as the chain said it; only where it lies, and what became of it, moves on.
create function billing_guard_coin_transfer() returns trigger language plpgsql as $$
declare
    moving constant text[] := array['block', 'state', 'why', 'surplus_units', 'resolution', 'resolved_by', 'resolved_at',
                                    'grant_id'];
    resolved constant text[] := array['block', 'state', 'why'];
begin
    if (to_jsonb(new) - moving) is distinct from (to_jsonb(old) - moving) then
        raise exception 'coin transfer % is as the chain said it', old.id using errcode = 'restrict_violation';
    end if;
    if old.resolution <> '' and (to_jsonb(new) - resolved) is distinct from (to_jsonb(old) - resolved) then
        raise exception 'coin transfer % is % and stays so', old.id, old.resolution using errcode = 'restrict_violation';
    end if;
    if new.state <> old.state and (old.state, new.state) not in (
        ('seen', 'orphaned'), ('orphaned', 'seen'), ('seen', 'counted'), ('seen', 'waiting'), ('counted', 'waiting'),
        ('counted', 'lost'), ('waiting', 'lost'))
    then
        raise exception 'coin transfer % cannot go from % to %', old.id, old.state, new.state
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger transfer_stays_as_it_came before update on billing_cointransfer
    for each row execute function billing_guard_coin_transfer();
create trigger never_deleted before delete on billing_cointransfer
    for each row execute function billing_refuse_change();

-- What was asked for, and at which address, stays; when it is given up stays too.
create function billing_guard_coin_quote() returns trigger language plpgsql as $$
begin
    if (to_jsonb(new) - 'said' - 'cancelled_at') is distinct from (to_jsonb(old) - 'said' - 'cancelled_at')
       or (old.cancelled_at is not null and new.cancelled_at is distinct from old.cancelled_at) then
        raise exception 'coin quote % is as it was given and cannot change', old.id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger quote_stays_as_it_was before update on billing_coinquote
    for each row execute function billing_guard_coin_quote();
create trigger never_deleted before delete on billing_coinquote
    for each row execute function billing_refuse_change();

-- What a payer signed stays, and what settled it. One that was refused may have been settled after all.
create function billing_guard_x402() returns trigger language plpgsql as $$
declare
    moving constant text[] := array['state', 'reference', 'amount', 'currency', 'tx_hash', 'reason'];
    sent constant text[] := array['state', 'tx_hash', 'reason'];
begin
    if (to_jsonb(new) - moving) is distinct from (to_jsonb(old) - moving)
       or (old.state <> 'accepted' and (to_jsonb(new) - sent) is distinct from (to_jsonb(old) - sent)) then
        raise exception 'authorisation % is as it was signed and cannot change', old.id
            using errcode = 'restrict_violation';
    end if;
    if old.state = 'settled' and new is distinct from old or new.state <> old.state and (old.state, new.state) not in (
        ('accepted', 'sent'), ('sent', 'settled'), ('sent', 'refused'), ('refused', 'settled'))
    then
        raise exception 'authorisation % cannot go from % to %', old.id, old.state, new.state
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger signed_is_signed before update on billing_x402authorization
    for each row execute function billing_guard_x402();
create trigger never_deleted before delete on billing_x402authorization
    for each row execute function billing_refuse_change();

-- The same order as disputes.RANK; what a dispute is about, and what was taken, stays, and the first decision.
create function billing_guard_dispute() returns trigger language plpgsql as $$
begin
    if (new.account_id, new.payment_id, new.gateway, new.gateway_ref, new.amount, new.credits_ucr, new.taken_ucr,
        new.taken_id, new.created_at)
       is distinct from
       (old.account_id, old.payment_id, old.gateway, old.gateway_ref, old.amount, old.credits_ucr, old.taken_ucr,
        old.taken_id, old.created_at) then
        raise exception 'dispute % is about what it was opened for', old.id using errcode = 'restrict_violation';
    end if;
    if old.state in ('won', 'lost') and (new.state, new.rest_id, new.restored_id, new.settled_at)
       is distinct from (old.state, old.rest_id, old.restored_id, old.settled_at)
       or old.state = 'under_review' and new.state = 'opened' then
        raise exception 'dispute % cannot go from % to %', old.id, old.state, new.state
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger dispute_goes_forward before update on billing_dispute
    for each row execute function billing_guard_dispute();
create trigger never_deleted before delete on billing_dispute
    for each row execute function billing_refuse_change();

create trigger append_only before update or delete on billing_dunningstep
    for each row execute function billing_refuse_change();

-- What somebody sent is kept as it came; what was never processed may be forgotten.
create trigger kept_as_it_came before update of gateway, headers, body, event_id, type, received_at
    on billing_gatewaywebhook for each row when (
        (new.gateway, new.headers, new.body, new.event_id, new.type, new.received_at)
        is distinct from (old.gateway, old.headers, old.body, old.event_id, old.type, old.received_at))
    execute function billing_refuse_change();
create trigger never_deleted before delete on billing_gatewaywebhook
    for each row when (old.state not in ('invalid', 'duplicate')) execute function billing_refuse_change();

create trigger kept_as_it_came before update of name, digest, iban, actor, created_at on billing_bankstatement
    for each row execute function billing_refuse_change();
create trigger never_deleted before delete on billing_bankstatement
    for each row execute function billing_refuse_change();

-- Numbers are taken one by one, and never again.
create trigger numbers_go_forward before update on billing_invoiceseries
    for each row when (new.last_number <> old.last_number + 1 or new.prefix <> old.prefix or new.year <> old.year)
    execute function billing_refuse_change();
create trigger never_deleted before delete on billing_invoiceseries
    for each row execute function billing_refuse_change();

-- Only how much of a grant is left changes. By columns, so that spending asks nothing.
create trigger given_as_it_was before
    update of id, account_id, wallet_id, transaction_id, category, priority, amount_ucr, expires_at, created_at
    on billing_grant for each row execute function billing_refuse_change();
