"""One call of a function in the database: its statement is parsed and planned once for each connection.

Django puts arguments into the text of every statement, which the database then reads anew: for a charge that took a
fifth of its time there, and a third of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import uuid_utils
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.utils import CursorWrapper


class _Prepared(psycopg.Cursor[Any]):
    """Keeps its statements prepared; OPTIONS["prepare_threshold"] allows it."""

    def execute(self, query: Any, params: Any = None, **given: Any) -> _Prepared:
        return super().execute(query, params, prepare=True, **given)


def cursor() -> CursorWrapper:
    """As connection.cursor(), for statements that are prepared."""
    ours = connections[DEFAULT_DB_ALIAS]
    if ours.queries_logged:  # with their arguments, which a prepared one does not show
        return ours.cursor()
    ours.close_if_health_check_failed()
    ours.ensure_connection()
    return ours.make_cursor(_Prepared(ours.connection))


def row(statement: str, arguments: Sequence[object]) -> tuple[Any, ...]:
    """The one row that a call answers."""
    with cursor() as asked:
        asked.execute(statement, arguments)
        found: tuple[Any, ...] = asked.fetchone()
    return found


def new_ids(count: int) -> str:
    """So many new ids as one argument (uuid[]); a list of them would take as long as all other arguments."""
    return f"{{{','.join([str(uuid_utils.uuid7()) for _ in range(count)])}}}"
