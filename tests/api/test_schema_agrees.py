"""schemathesis: the running server against its own OpenAPI document, for a key of every scope and a staff key.

Each operation is called in process with data the document allows and data it forbids; half of the calls
name things that exist. NTD_FUZZ_EXAMPLES sets how many of each (a long run: 200).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from ntd_site import schema as ours
from tests import factories
from tests.api.test_every_url import THINGS, World
from tests.scripted import runtime  # noqa: F401 - executions of these tests run nowhere

pytestmark = [
    pytest.mark.django_db,
    # Hypothesis' JSON Schema plugin speaks of its own future.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
EXAMPLES = int(os.environ.get("NTD_FUZZ_EXAMPLES", "3"))
# Problems of the contract that are no breakage: what is not built, and machines that are not there.
EXPECTED = {"not_implemented", "sandbox_error", "scaling_error", "timeout"}
AGREE = (
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
)
QUICK = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def document() -> Any:
    return schemathesis.openapi.from_dict(ours.document())


def operations() -> Iterator[Any]:
    for result in document().get_all_operations():
        yield pytest.param(result.ok(), id=result.ok().label)


@pytest.fixture
def world(runtime, settings):  # noqa: F811 - the fixture imported above
    """The cast's things, in a transaction that requests leave open (as with Django's own test client)."""
    settings.RATE_LIMIT_PER_MINUTE = 1_000_000
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield World()
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def real_ids(world: World, path: str) -> dict[str, str]:
    """Path parameters that name what exists."""
    parts, found = path.split("/"), {}
    for noun, part in zip(parts, parts[1:], strict=False):
        if part.startswith("{") and noun in THINGS:
            if noun not in world.things:
                world.things[noun] = THINGS[noun](world)
            found[part.strip("{}")] = str(world.things[noun].pk)
    return found


@pytest.mark.parametrize("is_staff", [False, True], ids=["key", "staff"])
@pytest.mark.parametrize("operation", list(operations()))
def test_the_server_does_what_the_document_says(operation, is_staff, world):
    operation.schema.app = operation.app = get_wsgi_application()
    _, secret = factories.make_key(world.account, is_staff=is_staff)
    ids = real_ids(world, operation.path)

    @QUICK
    @given(
        case=strategies.one_of(
            operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
            operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
        ),
        exists=strategies.booleans(),
    )
    def agree(case: Any, exists: bool) -> None:
        if exists:
            case.path_parameters = {**(case.path_parameters or {}), **ids}
        if case.query:
            case.query.pop("wait", None)  # nobody would wake it
        # A query the database refused ends its transaction, which here is the test's: each call has a part of its own.
        before = transaction.savepoint()
        response = case.call(headers={"Authorization": f"Bearer {secret}"})
        transaction.savepoint_rollback(before)
        _refuse_breakage(response)
        case.validate_response(response, checks=AGREE)

    agree()


def _refuse_breakage(response: Any) -> None:
    if response.status_code >= 500:
        assert response.json()["code"] in EXPECTED, response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"]
