-- Queue an execution with its worst case held, on the budgets of its meter, its agent and the key that asked for it.
-- outcome: ok, full, no_template, or one of billing_hold's ('budget': `refused` is the one); 'replay' is none here,
-- since the key is the row's own. `p_row` has all its columns but the large ones, which come beside it.
create function sandboxes_submit(
    p_row jsonb, p_code text, p_stdin bytea, p_files jsonb, p_most integer,
    p_hold uuid, p_key text, p_amount bigint, p_hold_expires_at timestamptz, p_now timestamptz,
    p_meter text default '', p_api_key text default '',
    out outcome text, out turn bigint, out available bigint, out refused uuid
) language plpgsql volatile set enable_seqscan = off as $$
declare
    execution sandboxes_execution := jsonb_populate_record(null::sandboxes_execution, p_row);
begin
    -- Until the end of the transaction nobody deletes it.
    perform 1 from sandboxes_template where id = execution.template_id for key share;
    if not found then outcome := 'no_template'; return; end if;
    turn := sandboxes_next_turn(execution.account_id, p_most);
    if turn is null then outcome := 'full'; return; end if;
    select h.outcome, h.available, h.hold into outcome, available, refused
      from billing_hold(execution.account_id, p_hold, p_key, p_amount, 'execution', p_hold_expires_at, p_now,
                        p_meter, execution.agent, p_api_key) h;
    if outcome <> 'ok' then return; end if;
    execution.turn := turn;
    execution.code := p_code;
    execution.stdin := p_stdin;
    execution.files := p_files;
    insert into sandboxes_execution values (execution.*);
end $$;
