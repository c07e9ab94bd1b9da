"""Functions of the database are called by prepared statements, and otherwise as Django would call them."""

import pytest
from django.db import DataError, connection, transaction
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


def test_it_fails_as_django_s_own():
    with pytest.raises(DataError), transaction.atomic():
        calls.row("select 1 / %s::int", [0])

    assert calls.row("select 1 / %s::int", [1]) == (1,)


def test_it_is_logged_with_its_arguments():
    with CaptureQueriesContext(connection) as asked:
        calls.row("select %s::int + 1", [41])

    assert [each["sql"] for each in asked] == ["select 41::int + 1"]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_new_ids_are_an_array(count):
    found = calls.row("select cardinality(%s::uuid[])", [calls.new_ids(count)])

    assert found == (count,)
