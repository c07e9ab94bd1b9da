"""One call of a function in the database: its statement is parsed and planned once for each connection.

Django puts arguments into the text of every statement, which the database then reads anew: for a charge that took a
fifth of its time there, and a third of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import uuid_utils
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.utils import CursorWrapper
from psycopg._preparing import Prepare
from psycopg.pq import ConnStatus


class _Prepared(psycopg.Cursor[Any]):
    """Keeps its statements prepared; OPTIONS["prepare_threshold"] allows it."""

    def execute(self, query: Any, params: Any = None, **given: Any) -> _Prepared:
        return super().execute(query, params, prepare=True, **given)

    def _maybe_prepare_gen(self, pgq: Any, **given: Any) -> Iterator[Any]:
        """As psycopg's, but a prepared statement is sent and answered in one call of libpq, which gives the interpreter
        away once; psycopg's steps do so each. With eight threads at work that made a charge a fourteenth slower."""
        prep, name = self._get_prepared(pgq, given["prepare"])
        if prep is not Prepare.YES or self._conn._pipeline:
            yield from super()._maybe_prepare_gen(pgq, **given)
            return
        result = self._pgconn.exec_prepared(name, pgq.params, param_formats=pgq.formats, result_format=self.format)
        if self._pgconn.status != ConnStatus.OK:  # as psycopg says it; the result of a lost connection has no code
            raise psycopg.OperationalError(result.get_error_message())
        self._check_results([result])
        self._set_results([result])


def run(statement: str, arguments: Sequence[object]) -> psycopg.Cursor[Any] | CursorWrapper:
    """The cursor that has run a statement, to be read before the next one.

    Fails as Django's own. One cursor stays with each connection: making it took as long as all arguments.
    """
    ours = connections[DEFAULT_DB_ALIAS]
    if ours.queries_logged or ours.execute_wrappers:  # with their arguments, which a prepared one does not show
        plain = ours.cursor()
        plain.execute(statement, arguments)
        return plain
    ours.close_if_health_check_failed()
    ours.ensure_connection()
    ours.validate_no_broken_transaction()
    with ours.wrap_database_errors:
        return _cursor_of(ours.connection).execute(statement, arguments)


def row(statement: str, arguments: Sequence[object]) -> tuple[Any, ...]:
    """The one row that a call answers."""
    found: tuple[Any, ...] = run(statement, arguments).fetchone()
    return found


def _cursor_of(connection: Any) -> _Prepared:
    kept = getattr(connection, "_ntd_calls", None)
    if kept is None:
        kept = connection._ntd_calls = _Prepared(connection)
    return kept


def new_ids(count: int) -> str:
    """So many new ids as one argument (uuid[]); a list of them would take as long as all other arguments."""
    return f"{{{','.join([str(uuid_utils.uuid7()) for _ in range(count)])}}}"
