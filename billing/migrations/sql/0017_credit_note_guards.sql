-- What the database itself refuses of credit notes: changes to what was issued, and more than the invoice says.

create function billing_guard_credit_note() returns trigger language plpgsql as $$
declare
    moving constant text[] := array['refund_id', 'refund_is_due'];
begin
    if (to_jsonb(new) - moving) is distinct from (to_jsonb(old) - moving)
       or (old.refund_id is not null and new.refund_id is distinct from old.refund_id)
       or (new.refund_is_due and not old.refund_is_due) then
        raise exception 'credit note % is issued and cannot change', old.id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger issued_note_is_fixed before update on billing_creditnote
    for each row execute function billing_guard_credit_note();
create trigger never_deleted before delete on billing_creditnote
    for each row execute function billing_refuse_change();
create trigger append_only before update or delete on billing_creditnoteline
    for each row execute function billing_refuse_change();

-- A line belongs to the note's invoice, and all notes together take off at most what it says.
create function billing_check_credited_line() returns trigger language plpgsql as $$
declare
    of_line record;
begin
    select l.amount, l.invoice_id into of_line from billing_invoiceline l where l.id = new.line_id for share;
    if of_line.invoice_id is distinct from (select invoice_id from billing_creditnote where id = new.note_id) then
        raise exception 'line % is not of the credited invoice', new.line_id using errcode = 'check_violation';
    end if;
    if (select sum(amount) from billing_creditnoteline where line_id = new.line_id) > of_line.amount then
        raise exception 'line % would be credited beyond its amount', new.line_id using errcode = 'check_violation';
    end if;
    return null;
end $$;
create trigger credited_within_the_line after insert on billing_creditnoteline
    for each row execute function billing_check_credited_line();

-- Of a final invoice only the state may move on (with its time and reason), and what is credited, which only grows.
create or replace function billing_guard_invoice() returns trigger language plpgsql as $$
declare
    moving constant text[] := array['state', 'reason', 'paid_at', 'voided_at', 'credited', 'credited_due',
                                    'credited_due_ucr'];
begin
    if old.state <> 'draft' and (to_jsonb(new) - moving) is distinct from (to_jsonb(old) - moving) then
        raise exception 'invoice % is final: only its state may change', old.id using errcode = 'restrict_violation';
    end if;
    if new.credited < old.credited or new.credited_due < old.credited_due
       or new.credited_due_ucr < old.credited_due_ucr then
        raise exception 'what is credited of invoice % stays credited', old.id using errcode = 'restrict_violation';
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
