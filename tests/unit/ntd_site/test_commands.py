import psycopg
import pytest
import redis
from django.db import OperationalError

from ntd_site import commands


def failing(monkeypatch, error, cause=None):
    def fail(argv):
        raise error from cause

    monkeypatch.setattr(commands, "execute_from_command_line", fail)


@pytest.mark.parametrize(
    ("error", "cause", "said"),
    [
        (OperationalError("no such socket\nIs it running?"), psycopg.OperationalError(), "The database does not answer: no such socket\n"),
        (redis.ConnectionError("refused"), None, "Redis does not answer: refused\n"),
    ],
)  # fmt: skip
def test_what_is_away_is_a_sentence(monkeypatch, error, cause, said):
    failing(monkeypatch, error, cause)

    with pytest.raises(SystemExit) as ended:
        commands.run(["manage.py", "verify_ledger"])

    assert str(ended.value).startswith(f"{said}Start the product first")


@pytest.mark.parametrize(
    ("cause", "argv"), [(psycopg.errors.AdminShutdown(), []), (psycopg.OperationalError(), ["--traceback"]), (None, [])]
)
def test_what_was_refused_or_is_asked_to_be_shown_is_raised(monkeypatch, cause, argv):
    failing(monkeypatch, OperationalError("x"), cause)

    with pytest.raises(OperationalError):
        commands.run(["manage.py", "verify_ledger", *argv])
