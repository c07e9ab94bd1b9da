-- An account's own price book may end (valid_until); the rest of this function is as in 0006.

create or replace function billing_usage_facts(
    p_account uuid, p_hold_key text, p_source text, p_key text, p_meter text, p_at timestamptz
) returns table (
    account uuid, status text, cadence text, time_zone text,
    hold_state text, hold_amount bigint, hold_expires_at timestamptz,
    earlier uuid, invoiced boolean,
    price uuid, book uuid, shape text, amount bigint, per numeric, minimum bigint, tiers jsonb, name text, unit text,
    totals_start timestamptz, totals_quantity numeric, totals_rated bigint
) language plpgsql volatile as $$
declare
    owner uuid := coalesce(p_account, (select h.account_id from billing_hold h where h.key = p_hold_key));
begin
    perform 1 from billing_lock_wallet(owner);
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

-- A published book stays as it is; an account's own may be given an end, once.
create function billing_guard_price_book() returns trigger language plpgsql as $$
begin
    if (to_jsonb(new) - 'valid_until') is distinct from (to_jsonb(old) - 'valid_until')
       or old.valid_until is not null then
        raise exception 'price book % is published and cannot change', old.id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger published_book_is_fixed before update on billing_pricebook
    for each row execute function billing_guard_price_book();
create trigger never_deleted before delete on billing_pricebook
    for each row execute function billing_refuse_change();
