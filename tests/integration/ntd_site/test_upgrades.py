"""An installation with rows in it upgrades, and goes back: in a database of its own, which begins as one did long ago."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from billing import bank_undoing, ledger, verify
from billing.models import BankMatch, BankReturn, Grant, Invoice, Payment, Transaction
from federation.models import Agent, Federation, Handler, Task
from tests import catalog, old_rows

APPS = ("billing", "federation", "sandboxes", "scaling")
Step = tuple[str, str]


@pytest.fixture(scope="module")
def own_database(django_db_blocker: Any) -> Iterator[None]:
    """`default` is an empty database meanwhile: migrations that fill in Python know no other."""
    usual = connections["default"]
    name = f"{usual.settings_dict['NAME']}_upgrades"
    own = type(usual)(usual.settings_dict | {"NAME": name}, "default")
    with django_db_blocker.unblock():
        _anew(usual, f"drop database if exists {name} with (force)", f"create database {name}")
        connections["default"] = own
        yield
        own.close()
        connections["default"] = usual
        _anew(usual, f"drop database {name} with (force)")


def _anew(usual: Any, *statements: str) -> None:
    # A database cannot be made from within itself, nor in a transaction.
    parameters = usual.get_connection_params() | {"dbname": "postgres"}
    known = {key: parameters[key] for key in ("host", "port", "user", "password", "dbname") if parameters.get(key)}
    with psycopg.connect(**known, autocommit=True) as server:
        for statement in statements:
            server.execute(statement)


@pytest.fixture(scope="module")
def schemas(own_database: None) -> dict[Step, set[str]]:
    """Filled at its old state and brought to the newest; what each app's schema was after each migration since."""
    _migrate(old_rows.STATE)
    seen = {step: catalog.of(step[0]) for step in old_rows.STATE}
    old_rows.fill(MigrationExecutor(connection).loader.project_state(old_rows.STATE).apps)

    def look(action: str, migration: Migration | None = None, fake: bool = False) -> None:
        if migration is not None and action == "apply_success":
            seen[migration.app_label, migration.name] = catalog.of(migration.app_label)

    _migrate(_newest(), look)
    return seen


def _newest() -> list[Step]:
    return [leaf for leaf in MigrationExecutor(connection).loader.graph.leaf_nodes() if leaf[0] in APPS]


def _migrate(targets: list[Step], look: Callable[..., None] | None = None) -> None:
    executor = MigrationExecutor(connection, look)
    # Each step makes all models anew; looking for garbage among them takes half of the time.
    gc.disable()
    try:
        executor.migrate(targets)
    finally:
        gc.enable()


def _broken() -> list[verify.Check]:
    return [check for check in verify.checks() if not check.ok]


def test_an_old_installation_upgrades_with_all_its_rows(schemas: dict[Step, set[str]]) -> None:
    assert _broken() == []
    assert all(grant.is_open == (grant.remaining_ucr > 0) for grant in Grant.objects.all())
    assert set(Invoice.objects.values_list("state", "paid_with__purpose")) == {("paid", "invoice")}
    assert Handler.objects.get().reads_messages
    assert Federation.objects.get().agent_timeout_seconds == 180
    assert set(Agent.objects.values_list("runtime", flat=True)) == {"managed", "remote", "mcp"}
    assert Task.objects.filter(api_key=None).count() == 2


def test_an_upgraded_account_spends_what_it_had(schemas: dict[Step, set[str]]) -> None:
    account_id, now = Transaction.objects.values_list("account_id", flat=True).first(), timezone.now()
    before = ledger.balance(account_id=account_id, now=now).available_ucr

    with transaction.atomic():
        ledger.charge(account_id=account_id, amount_ucr=5, key="after", source="test", now=now)
        left, broken = ledger.balance(account_id=account_id, now=now).available_ucr, _broken()
        transaction.set_rollback(True)

    assert (left, broken) == (before - 5, [])


def test_every_migration_since_goes_back_to_what_was_and_forward_again(schemas: dict[Step, set[str]]) -> None:
    given_back = BankMatch.objects.get(kind="return")
    bank_undoing.undo(match_id=given_back.pk, reason="wrong", actor="Stella", now=timezone.now())
    different: list[tuple[str, str]] = []

    def look(action: str, migration: Migration | None = None, fake: bool = False) -> None:
        if migration is not None and action == "unapply_success":
            app = migration.app_label
            before = max(name for known, name in schemas if known == app and name < migration.name)
            different.extend((migration.name, line) for line in catalog.of(app) ^ schemas[app, before])

    _migrate(old_rows.STATE, look)
    assert different == []

    _migrate(_newest())
    assert {app: catalog.of(app) for app in APPS} == {app: schemas[step] for step in _newest() for app in step[:1]}
    assert _broken() == []
    # What no version before knew is as if it had never been; the rest of the bank's is there.
    assert (BankMatch.objects.count(), BankReturn.objects.count(), Payment.objects.count()) == (1, 0, 4)


def test_what_no_version_before_can_keep_is_not_taken_back(schemas: dict[Step, set[str]]) -> None:
    reverse = importlib.import_module("billing.migrations.0028_bank_undos").REVERSE
    paid = BankMatch.objects.get(kind="payment")

    with transaction.atomic():
        bank_undoing.undo(match_id=paid.pk, reason="wrong", actor="Stella", now=timezone.now())
        with connection.cursor() as cursor, pytest.raises(IntegrityError, match="go back by a backup"):
            cursor.execute(reverse)
        transaction.set_rollback(True)

    assert not Payment.objects.exclude(state="succeeded").exists()
