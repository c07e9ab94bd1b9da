"""The steps that every execution takes, each one call of a function in the database and so one round trip.

submit -> claim -> start -> finish          what they do: migrations/sql/0012_execution_functions.sql
Called outside a transaction each is one by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from uuid_utils.compat import uuid7

from sandboxes.models import Execution

SUBMIT = "select * from sandboxes_submit(%s::jsonb, %s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s, %s, %s)"
TURN = "select sandboxes_next_turn(%s, %s)"
CLAIM = """
select (claimed.execution).*, claimed.template_address, claimed.fills_pool
from sandboxes_claim(
    %(lock)s, %(now)s, %(lease)s, %(me)s, %(node)s, %(names)s::text[], %(most)s::int[], %(usual)s::varchar[]
) claimed
"""
START = "select sandboxes_start(%s, %s, %s, %s, %s, %s, %s)"
HOLD_ROW = "select sandboxes_hold_row(%s, %s, %s)"
FINISH = "select sandboxes_finish(%s, %s, %s, %s, %s, %s::jsonb, %s, %s)"
# Beside the row, as they are: they may be megabytes.
LARGE = ("code", "stdin", "files")
SMALL = tuple(field.attname for field in Execution._meta.concrete_fields if field.attname not in LARGE)


class Submitted(NamedTuple):
    """What came of it: `ok`, `full`, `no_template`, or what the ledger says to the hold."""

    outcome: str
    turn: int | None
    available_ucr: int
    # The budget that does not allow it, when the ledger says `budget`.
    refused_by: UUID | None = None


def submit(
    execution: Execution,
    *,
    most_waiting: int,
    held_ucr: int,
    held_until: datetime,
    now: datetime,
    meter: str = "",
    api_key: str = "",
) -> Submitted:
    """Queue a new execution with `held_ucr` set aside; only `ok` has written anything.

    The hold counts on the budgets of the meter, of the execution's agent and of the API key.
    """
    row = json.dumps({name: getattr(execution, name) for name in SMALL}, default=str)
    arguments = [row, execution.code, execution.stdin, json.dumps(execution.files), most_waiting]
    arguments += [uuid7(), execution.hold_key, held_ucr, held_until, now, meter, api_key]
    done = Submitted(*_row(SUBMIT, arguments))
    if done.outcome == "ok":
        execution.turn = done.turn
        execution._state.adding, execution._state.db = False, connection.alias
    return done


def next_turn(account_id: UUID, *, most_waiting: int) -> int | None:
    """The next place in the fair order for an account; None when it has as many waiting as it may."""
    turn: int | None = _row(TURN, [account_id, most_waiting])[0]
    return turn


def start(execution: Execution) -> bool:
    """Write that it runs, since when and where; False when this attempt no longer holds it."""
    where = [execution.started_at, execution.sandbox, execution.is_warm, execution.startup_ms]
    return bool(_row(START, [*_attempt(execution), *where])[0])


def hold_row(execution: Execution) -> bool:
    """Lock the row until the transaction ends; False when this attempt no longer holds it."""
    return bool(_row(HOLD_ROW, _attempt(execution))[0])


def finish(execution: Execution, *, state: str, result: Mapping[str, Any], outcome: str, now: datetime) -> bool:
    """Write how it ended and its attempt; False when this attempt no longer holds it."""
    said = json.dumps(result, default=str)
    return bool(_row(FINISH, [*_attempt(execution), state, now, said, uuid7(), outcome])[0])


def _attempt(execution: Execution) -> list[Any]:
    return [execution.pk, execution.attempt, execution.claimed_by]


def _row(statement: str, arguments: list[Any]) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments)
        return cursor.fetchone()
