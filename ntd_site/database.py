"""Whether a pooled connection to the database is still good, without asking the database.

psycopg's pool can ask it before each use, a round trip that took as long as the query after it. But a server that
died or restarted has closed its end, and that makes an idle socket readable: then, and only then, it is asked.
"""

from __future__ import annotations

import select
from typing import Any

from psycopg_pool import ConnectionPool

_ask = ConnectionPool.check_connection


def check(connection: Any) -> None:
    """Raises psycopg.OperationalError for a connection that is not good."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        _ask(connection)


def install() -> None:
    """Django hands this function of the class to the pool that it makes, and takes no other."""
    ConnectionPool.check_connection = staticmethod(check)
