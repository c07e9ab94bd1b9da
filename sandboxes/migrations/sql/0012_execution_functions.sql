-- The hot path of an execution: each of these is one round trip and, called alone, one transaction.
-- Their statements are planned once for each connection, maybe while the queue is empty, and must be good when it is
-- long: so tables are not read whole, and what is wanted in an order comes from the index that has it. Times and new ids come from the caller (a test clock may
-- shift "now"). What `outcome` says is put into words by executions.py and billing/ledger/; only 'ok' has written.

-- The place in the fair order: after the account's own last, but never before what is served now. So accounts
-- alternate, whatever they have waiting, and none saves up turns by staying away. Null when p_most wait already.
-- Three looks at the end of an index; one aggregate over the queue would read all of it.
create function sandboxes_next_turn(p_account uuid, p_most integer)
returns bigint language plpgsql volatile set enable_seqscan = off set enable_sort = off as $$
declare
    own bigint := (select turn from sandboxes_execution where state = 'queued' and account_id = p_account
                    order by turn desc limit 1);
    present bigint := (select turn from sandboxes_execution where state in ('starting', 'running')
                        order by turn desc limit 1);
begin
    if present is null then
        present := coalesce((select turn from sandboxes_execution where state = 'queued' order by turn limit 1), 1) - 1;
    end if;
    own := greatest(coalesce(own, 0), present);
    return case when own - present < p_most then own + 1 end;
end $$;

-- Queue an execution with its worst case held. `p_row` has all its columns but the large ones, which come beside it.
-- outcome: ok, full, no_template, or one of billing_hold's; 'replay' is none here, since the key is the row's own.
create function sandboxes_submit(
    p_row jsonb, p_code text, p_stdin bytea, p_files jsonb, p_most integer,
    p_hold uuid, p_key text, p_amount bigint, p_hold_expires_at timestamptz, p_now timestamptz,
    out outcome text, out turn bigint, out available bigint
) language plpgsql volatile set enable_seqscan = off as $$
declare
    execution sandboxes_execution := jsonb_populate_record(null::sandboxes_execution, p_row);
begin
    -- Until the end of the transaction nobody deletes it.
    perform 1 from sandboxes_template where id = execution.template_id for key share;
    if not found then outcome := 'no_template'; return; end if;
    turn := sandboxes_next_turn(execution.account_id, p_most);
    if turn is null then outcome := 'full'; return; end if;
    select h.outcome, h.available into outcome, available
      from billing_hold(execution.account_id, p_hold, p_key, p_amount, 'execution', p_hold_expires_at, p_now) h;
    if outcome <> 'ok' then return; end if;
    execution.turn := turn;
    execution.code := p_code;
    execution.stdin := p_stdin;
    execution.files := p_files;
    insert into sandboxes_execution values (execution.*);
end $$;

-- The fairest execution that can run now, on the first runtime of its pool that is offered, has room and could take
-- it. Under a lock: claims go one at a time, so that no pool and no runtime ever has one more than it may.
create function sandboxes_claim(
    p_lock bigint, p_now timestamptz, p_lease timestamptz, p_me text, p_node text,
    p_names text[], p_most integer[], p_usual varchar[]
) returns table (execution sandboxes_execution, template_address text, fills_pool boolean)
language plpgsql volatile set enable_seqscan = off set enable_sort = off as $$
begin
    perform pg_advisory_xact_lock(p_lock);
    return query
    with live as (
        select e.pool_id, e.runtime, count(*) as n from sandboxes_execution e
         where e.state in ('starting', 'running') and e.kept_sandbox_id is null group by e.pool_id, e.runtime
    ),
    runtime as (
        select offered.name, offered.most - coalesce(sum(live.n), 0) as free
          from unnest(p_names, p_most) as offered(name, most)
          left join live on live.runtime = offered.name
         group by offered.name, offered.most
        having coalesce(sum(live.n), 0) < offered.most
    ),
    room as (
        select pool.id, pool.size - coalesce(sum(live.n), 0) as free,
               case when pool.runtimes = '{}' then p_usual else pool.runtimes end as runtimes
          from sandboxes_pool pool left join live on live.pool_id = pool.id
         group by pool.id
        having coalesce(sum(live.n), 0) < pool.size
    ),
    next as (
        select waiting.id, chosen.name as runtime, least(room.free, chosen.free) as free
          from sandboxes_execution waiting
          join room on room.id = waiting.pool_id
          cross join lateral (
            select runtime.name, runtime.free
              from unnest(room.runtimes) with ordinality as listed(name, place) join runtime using (name)
             where listed.name = any(waiting.runtimes)
             order by listed.place limit 1
          ) chosen
         where waiting.state = 'queued' and waiting.available_at <= p_now
         order by waiting.turn, waiting.id
         limit 1
           for update of waiting skip locked
    ),
    claimed as (
        update sandboxes_execution e
           set state = 'starting', attempt = e.attempt + 1, claimed_by = p_me, claimed_at = p_now,
               lease_expires_at = p_lease, node = p_node, runtime = next.runtime
          from next, sandboxes_template template
         where e.id = next.id and template.id = e.template_id
        returning e as execution, template.address::text as address, next.free <= 1 as fills
    )
    select * from claimed;
end $$;

-- It runs. False when this attempt no longer holds it. Should the database die with this it is still what was
-- claimed, so nobody waits for the disk.
create function sandboxes_start(
    p_id uuid, p_attempt integer, p_me text, p_started_at timestamptz, p_sandbox text, p_warm boolean, p_startup_ms float8
) returns boolean language plpgsql volatile set enable_seqscan = off as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update sandboxes_execution
       set state = 'running', started_at = p_started_at, sandbox = p_sandbox, is_warm = p_warm, startup_ms = p_startup_ms
     where id = p_id and attempt = p_attempt and claimed_by = p_me and lease_expires_at is not null
       and state = 'starting';
    return found;
end $$;

-- How it ended, with the attempt. `p_result` has the columns that are known only now; who cancelled it has set state
-- and end already. False when this attempt no longer holds it.
create function sandboxes_finish(
    p_id uuid, p_attempt integer, p_me text, p_state text, p_now timestamptz, p_result jsonb,
    p_attempt_id uuid, p_outcome text
) returns boolean language plpgsql volatile set enable_seqscan = off as $$
declare
    r sandboxes_execution := jsonb_populate_record(null::sandboxes_execution, p_result);
    e sandboxes_execution;
begin
    update sandboxes_execution x
       set state = case x.state when 'cancelled' then x.state else p_state end,
           finished_at = case x.state when 'cancelled' then x.finished_at else p_now end,
           breach = case x.state when 'cancelled' then '' else r.breach end,
           error = case x.state when 'cancelled' then '' else r.error end,
           lease_expires_at = null,
           started_at = r.started_at, sandbox = r.sandbox, is_warm = r.is_warm, startup_ms = r.startup_ms,
           exit_code = r.exit_code, signal = r.signal, duration_ms = r.duration_ms,
           stdout_bytes = r.stdout_bytes, stderr_bytes = r.stderr_bytes,
           stdout_truncated = r.stdout_truncated, stderr_truncated = r.stderr_truncated,
           artifact_count = r.artifact_count, artifacts_truncated = r.artifacts_truncated,
           cpu_ms = r.cpu_ms, peak_memory_bytes = r.peak_memory_bytes, disk_bytes = r.disk_bytes,
           network_sent_bytes = r.network_sent_bytes, network_received_bytes = r.network_received_bytes,
           samples = r.samples, cost_ucr = r.cost_ucr
     where x.id = p_id and x.attempt = p_attempt and x.claimed_by = p_me and x.lease_expires_at is not null
       and x.state in ('starting', 'running', 'cancelled')
    returning x.* into e;
    if not found then return false; end if;
    insert into sandboxes_attempt
        (id, execution_id, number, outcome, error, sandbox, node, runtime, is_warm, startup_ms, duration_ms,
         claimed_at, started_at, finished_at)
    values
        (p_attempt_id, e.id, e.attempt, p_outcome, '', e.sandbox, e.node, e.runtime, e.is_warm, e.startup_ms,
         e.duration_ms, coalesce(e.claimed_at, p_now), e.started_at, p_now);
    return true;
end $$;

-- Whether this attempt still holds its execution, whose row is then locked until the transaction ends. Who cancels it
-- has set state and end before its worker does, and the wallet is locked after the row, here as everywhere.
create function sandboxes_hold_row(p_id uuid, p_attempt integer, p_me text)
returns boolean language plpgsql volatile set enable_seqscan = off as $$
begin
    perform 1 from sandboxes_execution
     where id = p_id and attempt = p_attempt and claimed_by = p_me and lease_expires_at is not null
       and state in ('starting', 'running', 'cancelled')
       for no key update;
    return found;
end $$;

-- Everybody's pool of a name, with its template.
create function sandboxes_built_in(p_name text)
returns table (pool sandboxes_pool, template sandboxes_template)
language plpgsql stable set enable_seqscan = off as $$
begin
    return query
    select p, t from sandboxes_pool p join sandboxes_template t on t.id = p.template_id
     where p.account_id is null and p.name = p_name;
end $$;

-- One execution.
create function sandboxes_one(p_id uuid)
returns setof sandboxes_execution language plpgsql stable set enable_seqscan = off as $$
begin
    return query select * from sandboxes_execution where id = p_id;
end $$;
