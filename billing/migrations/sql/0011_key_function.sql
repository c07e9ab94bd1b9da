-- The key that is neither revoked nor expired, with its account: every call of the API begins with it, so it is
-- planned once for each connection.
create function billing_alive_key(p_digest text, p_now timestamptz)
returns table (key billing_apikey, account billing_account)
language plpgsql stable set enable_seqscan = off as $$
begin
    return query
    select k, a from billing_apikey k join billing_account a on a.id = k.account_id
     where k.digest = p_digest and k.revoked_at is null and (k.expires_at is null or k.expires_at > p_now);
end $$;
