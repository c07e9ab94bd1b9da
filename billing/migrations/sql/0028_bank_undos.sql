-- A wrong match is undone: what it added is taken off again, a payment that had succeeded by it waits again, and the
-- invoice that the payment had paid is open again. Nothing else goes back.

create function billing_take_bank_match_off() returns trigger language plpgsql as $$
declare
    of_match record;
begin
    select * into of_match from billing_bankmatch where id = new.match_id;
    update billing_bankline set matched = matched - of_match.amount where id = of_match.line_id;
    if of_match.transfer_id is not null then
        update billing_banktransfer set received = received - of_match.amount where id = of_match.transfer_id;
    end if;
    if new.payment_id is not null and not exists (
        select 1 from billing_banktransfer where id = of_match.transfer_id and key = new.payment_id::text
    ) then
        raise exception 'match % did not pay payment %', new.match_id, new.payment_id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger undone_matches_are_taken_off before insert on billing_bankundo
    for each row execute function billing_take_bank_match_off();
create trigger append_only before update or delete on billing_bankundo
    for each row execute function billing_refuse_change();

-- As before, and: what was dropped stays so too.
create or replace function billing_guard_bank_return() returns trigger language plpgsql as $$
begin
    if old.state <> 'due' or (to_jsonb(new) - 'state' - 'sent_at' - 'sent_by')
       is distinct from (to_jsonb(old) - 'state' - 'sent_at' - 'sent_by') then
        raise exception 'bank return % is % and cannot change', old.id, old.state using errcode = 'restrict_violation';
    end if;
    return new;
end $$;

-- As before, and: a success is taken back only by the undoing of a match that names it, once each.
create or replace function billing_guard_payment() returns trigger language plpgsql as $$
declare
    is_undone boolean := new.reopened = old.reopened + 1 and old.state = 'succeeded' and new.state = 'processing'
        and exists (select 1 from billing_bankundo where payment_id = old.id and turn = new.reopened);
begin
    if (new.account_id, new.purpose, new.invoice_id, new.credits_ucr, new.amount, new.currency, new.gateway,
        new.method_token, new.key, new.created_at)
       is distinct from
       (old.account_id, old.purpose, old.invoice_id, old.credits_ucr, old.amount, old.currency, old.gateway,
        old.method_token, old.key, old.created_at)
       or (old.gateway_ref is not null and new.gateway_ref is distinct from old.gateway_ref)
       or (new.reopened <> old.reopened and not is_undone) then
        raise exception 'payment % is what was asked for and cannot change', old.id using errcode = 'restrict_violation';
    end if;
    if new.state <> old.state and not is_undone
       and billing_payment_rank(new.state) <= billing_payment_rank(old.state) then
        raise exception 'payment % cannot go from % to %', old.id, old.state, new.state
            using errcode = 'restrict_violation';
    end if;
    if new.refunded < old.refunded then
        raise exception 'what payment % has given back stays given back', old.id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;

-- As before, and: a paid invoice is open again when the payment that paid it has not succeeded any more.
create or replace function billing_guard_invoice() returns trigger language plpgsql as $$
declare
    moving constant text[] := array['state', 'reason', 'paid_at', 'paid_with_id', 'voided_at', 'credited',
                                    'credited_due', 'credited_due_ucr'];
begin
    if old.state <> 'draft' and (to_jsonb(new) - moving) is distinct from (to_jsonb(old) - moving) then
        raise exception 'invoice % is final: only its state may change', old.id using errcode = 'restrict_violation';
    end if;
    if new.credited < old.credited or new.credited_due < old.credited_due
       or new.credited_due_ucr < old.credited_due_ucr then
        raise exception 'what is credited of invoice % stays credited', old.id using errcode = 'restrict_violation';
    end if;
    if new.state = old.state and new.paid_with_id is distinct from old.paid_with_id then
        raise exception 'what paid invoice % stays what paid it', old.id using errcode = 'restrict_violation';
    end if;
    if new.state <> old.state and not (
        (old.state = 'draft' and new.state in ('open', 'paid', 'void'))
        or (old.state = 'open' and new.state in ('paid', 'void', 'uncollectible'))
        or (old.state = 'uncollectible' and new.state in ('paid', 'void'))
        or (old.state = 'paid' and new.state = 'open' and exists (
            select 1 from billing_payment where id = old.paid_with_id and state <> 'succeeded'))
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

-- Who paid what was paid so far: both were written at one moment.
-- Checked now, since a table with checks to come cannot be altered.
set constraints all immediate;
alter table billing_invoice disable trigger final_invoice_is_fixed;
update billing_invoice i set paid_with_id = p.id
  from billing_payment p
 where p.invoice_id = i.id and p.state = 'succeeded' and i.state = 'paid' and i.paid_at = p.settled_at;
alter table billing_invoice enable trigger final_invoice_is_fixed;
