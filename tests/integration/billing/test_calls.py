"""Functions of the database are called by prepared statements, and otherwise as Django would call them."""

import pytest
from django.db import DataError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from billing import calls
from tests import ledger_cast as cast

pytestmark = pytest.mark.django_db


def test_a_call_is_prepared_once_for_the_connection():
    account = cast.make_account(100)
    for _ in range(3):
        cast.charge(account, 1)

    with connection.cursor() as cursor:
        cursor.execute("select count(*) from pg_prepared_statements where statement like %s", ["%billing_charge(%"])
        assert cursor.fetchone() == (1,)


def test_it_fails_as_django_s_own_the_first_time_and_later():
    for _ in range(2):
        with pytest.raises(DataError), transaction.atomic():
            calls.row("select 1 / %s::int", [0])

        assert calls.row("select 1 / %s::int", [1]) == (1,)


def test_a_prepared_call_is_one_call_of_libpq(monkeypatch):
    """Otherwise psycopg has changed, and calls take its own way, which is right and slower."""
    calls.row("select %s::int + 2", [1])
    cursor = calls.run("select %s::int + 2", [1])
    monkeypatch.setattr("psycopg._cursor_base.execute", lambda *_: pytest.fail("sent and fetched in steps"))

    assert calls.row("select %s::int + 2", [40]) == (42,)
    assert cursor is calls.run("select %s::int + 2", [1])


def test_nothing_is_asked_in_a_broken_transaction():
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            calls.row("select %s::int", [1])


def test_a_new_connection_has_a_cursor_of_its_own(transactional_db):
    before = calls.run("select %s::int", [1])
    connection.close()

    after = calls.run("select %s::int", [2])

    assert after is not before
    assert after.fetchone() == (2,)


def test_a_connection_that_is_gone_is_an_operational_error(transactional_db):
    for _ in range(2):
        pid = calls.row("select pg_backend_pid() + %s::int", [0])[0]
    other = connection.copy()  # a connection of its own to the same database
    with other.cursor() as cursor:
        cursor.execute("select pg_terminate_backend(%s, 5000)", [pid])
    other.close()

    with pytest.raises(OperationalError):
        calls.row("select pg_backend_pid() + %s::int", [0])

    connection.close()
    assert calls.row("select pg_backend_pid() + %s::int", [0])[0] != pid


def test_who_wraps_what_is_executed_sees_calls_too():
    seen = []

    def see(execute, sql, params, many, context):
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(see):
        calls.row("select %s::int + 3", [1])

    assert seen == ["select %s::int + 3"]


def test_it_is_logged_with_its_arguments():
    with CaptureQueriesContext(connection) as asked:
        calls.row("select %s::int + 1", [41])

    assert [each["sql"] for each in asked] == ["select 41::int + 1"]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_new_ids_are_an_array(count):
    found = calls.row("select cardinality(%s::uuid[])", [calls.new_ids(count)])

    assert found == (count,)
