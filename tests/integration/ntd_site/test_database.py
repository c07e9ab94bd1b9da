import psycopg
import pytest
from django.conf import settings
from psycopg_pool import ConnectionPool

from ntd_site import database


@pytest.fixture
def connect():
    place = settings.DATABASES["default"]
    made = []

    def connect():
        made.append(psycopg.connect(dbname="postgres", host=place["HOST"], user=place["USER"], autocommit=True))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


@pytest.fixture
def asked(monkeypatch):
    found = []
    ask = database._ask
    monkeypatch.setattr(database, "_ask", lambda connection: (found.append(connection), ask(connection)))
    return found


def test_the_pools_of_django_look_at_their_connections():
    assert ConnectionPool.check_connection is database.check


def test_a_quiet_connection_is_good_without_being_asked(connect, asked):
    database.check(connect())

    assert asked == []


def test_one_whose_server_has_gone_is_not_good(connect, asked):
    connection, other = connect(), connect()
    other.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
    other.execute("select pg_sleep(0.05)")

    with pytest.raises(psycopg.OperationalError):
        database.check(connection)

    assert asked == [connection]


def test_one_with_something_to_say_is_asked_and_good(connect, asked):
    connection, other = connect(), connect()
    connection.execute("listen bell")
    other.execute("notify bell")
    other.execute("select pg_sleep(0.05)")

    database.check(connection)

    assert asked == [connection]


def test_a_closed_one_is_not_good(connect):
    connection = connect()
    connection.close()

    with pytest.raises(psycopg.OperationalError):
        database.check(connection)
