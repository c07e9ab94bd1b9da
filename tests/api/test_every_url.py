"""Walks the whole URLconf in every role. A new address needs no line here, unless its noun is new: then one in `THINGS`.

anonymous   login, 401, 403 or 404 everywhere but in OPEN
Charlie     (an owner elsewhere) 404 on everything of Alice's account
Vera        (a viewer of Alice's) sees, and every write is refused
Stella      (staff) sees all
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver
from django.utils import timezone

from billing import (
    books,
    budgets,
    credit_notes,
    invitations,
    invoicing,
    ledger,
    methods,
    payments,
    periods,
    price_drafts,
)  # fmt: skip
from billing.models import CardSetup, Role
from billing.outgoing import endpoints
from federation import memory
from federation.models import DeadLetter
from ntd_site import schema
from sandboxes.models import Artifact
from tests import bank_cast, coin_cast, factories, ledger_cast, outgoing_cast, payment_cast
from tests.scripted import runtime  # noqa: F401 - executions of these tests run nowhere

pytestmark = pytest.mark.django_db

# Addresses anybody may open.
OPEN = {
    "login",
    "sign-in",
    "password_reset",
    "password_reset_done",
    "password_reset_confirm",
    "password_reset_complete",
    "invitation",
    "api-docs",
    "api-schema",
    "health",
    "metrics",
    # Opened by a gateway's signature alone.
    "gateway-webhook",
}
NO_SUCH_ID = "0198c0de-0000-7000-8000-000000000000"
# Posts that change nothing, or only what is the person's own.
HARMLESS = {
    "api/v1/prices/estimate",
    "api/v1/gateways/<str:name>/webhook",
    "api/v1/federations/<uuid:pk>/memory/<namespace:namespace>/search",
}


class World:
    """Alice's account with one of everything in it."""

    def __init__(self) -> None:
        self.account = factories.make_account()
        self.federation = factories.make_federation(self.account)
        self.agent = factories.make_agent(self.federation)
        self.execution = factories.make_execution(self.account)
        self.now = timezone.now()
        notes = {"federation": self.federation, "name": WORDS["namespace"], "key": WORDS["key"]}
        memory.write(**notes, item=memory.Item("hello", embedding=[1.0, 2.0]), by="Alice", now=self.now)
        self.things: dict[str, Any] = {}


def _card_setup(world: World) -> Any:
    about = {"session_id": "cs_walk", "key": "walk", "request_hash": "walk", "action_url": "https://stripe.example/"}
    times = {"created_at": world.now, "ask_at": world.now + timedelta(hours=1)}
    return CardSetup.objects.create(account=world.account, state="open", **about, **times)


def _hold(world: World) -> Any:
    until = world.now + timedelta(hours=1)
    return ledger.hold(account_id=world.account.pk, amount_ucr=1_000_000, key="walk", expires_at=until, now=world.now)


def _invoice(world: World) -> Any:
    start = world.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return invoicing.generate(account=world.account, period=periods.Period(start, world.now), now=world.now)[0]


def _credit_note(world: World) -> Any:
    ledger_cast.use(world.account, "mcp_call", 100, now=world.now - timedelta(days=3))
    period = periods.Period(world.now - timedelta(days=4), world.now - timedelta(days=2))
    draft, _ = invoicing.generate(account=world.account, period=period, now=world.now)
    final = invoicing.finalize(invoice_id=draft.pk, now=world.now)
    return credit_notes.issue(invoice_id=final.pk, reason="walk", key="walk", now=world.now)[0]


def _invitation(world: World) -> Any:
    said = {"email": "new@example.com", "role": Role.VIEWER, "by": None, "now": world.now}
    return invitations.invite(account=world.account, **said)


def _budget(world: World) -> Any:
    said = {"scope": "account", "period": "day", "limit_ucr": 10**9, "action": "notify", "now": world.now}
    return budgets.create(account=world.account, **said)


def _dispute(world: World) -> Any:
    payment = payment_cast.buy(world.account, 10)
    payments.raise_dispute(payment=payment, now=world.now)
    return payment.disputes.get()


def _delivery(world: World) -> Any:
    return endpoints.test(endpoint=outgoing_cast.make_endpoint(world.account), now=world.now)


def _dead_letter(world: World) -> DeadLetter:
    agent = str(world.agent.pk)
    message = {"from": agent, "to": agent, "type": "custom", "payload": None, "priority": 5, "ttl_seconds": 300}
    said = {"federation": world.federation, "reason": "expired", "created_at": world.now}
    return DeadLetter.objects.create(message={**message, "correlation_id": ""}, **said)


def _group(world: World) -> Any:
    pool = factories.make_pool(world.account, name="of the group")
    return factories.make_group(str(pool.pk), target_type="pool")


# How to fill an address: the word before the id -> one such thing of Alice's.
THINGS: dict[str, Callable[[World], Any]] = {
    "agents": lambda world: world.agent,
    "api-keys": lambda world: factories.make_key(world.account)[0],
    "card-setups": _card_setup,
    "coin-refunds": lambda world: coin_cast.refund(world.account),
    "credit-notes": _credit_note,
    "balancers": lambda world: factories.make_balancer(),
    "budgets": _budget,
    "dead-letters": _dead_letter,
    "disputes": _dispute,
    "executions": lambda world: world.execution,
    "federations": lambda world: world.federation,
    "groups": _group,
    "holds": _hold,
    "invitations": _invitation,
    "invoices": _invoice,
    "lines": lambda world: bank_cast.make_line(),
    "matches": lambda world: bank_cast.make_return().match,
    "load-balancer": lambda world: factories.make_balancer(),
    "members": lambda world: world.account.memberships.get(role=Role.OWNER),
    "nodes": lambda world: factories.make_node(),
    "payment-methods": lambda world: methods.add(account=world.account, token="sim_ok", now=world.now),
    "payments": lambda world: payment_cast.buy(world.account, 10, "sim_action_required"),
    "pools": lambda world: factories.make_pool(world.account),
    "price-books": lambda world: books.price_of(account_id=world.account.pk, meter="mcp_call", at=world.now).book,
    "price-drafts": lambda world: price_drafts.start(account=None, now=world.now),
    "returns": lambda world: bank_cast.make_return(),
    "sandboxes": lambda world: factories.make_sandbox(world.account),
    "scaling-groups": _group,
    "tasks": lambda world: factories.make_task(world.federation),
    "templates": lambda world: factories.make_template(world.account),
    "webhook-deliveries": _delivery,
    "webhook-endpoints": lambda world: outgoing_cast.make_endpoint(world.account),
    "transactions": lambda world: world.account.transactions.order_by("pk").first(),
    "transfers": lambda world: coin_cast.transfer(world.account),
    "webhooks": lambda world: payment_cast.deliver(payment_cast.event("nobody")),
}
# Parts that are no id of a thing.
WORDS = {
    "uidb64": "AAAA",
    "token": "no-such-token",
    "path": "result.json",
    "name": "simulated",
    "namespace": "notes",
    "key": "first",
}


class Address(NamedTuple):
    route: str
    name: str
    view: Any

    @property
    def is_api(self) -> bool:
        return self.route.startswith("api/v1/")

    @property
    def is_page_of_account(self) -> bool:
        return self.route.startswith("o/<account:account>/")

    @property
    def nouns(self) -> list[str]:
        return re.findall(r"([\w-]+)/<\w+:(?!account)\w*pk>", self.route)

    @property
    def methods(self) -> list[str]:
        """The writes an API view has; pages are tried with POST."""
        actions = getattr(self.view, "actions", None)
        found = actions or [name for name in ("post", "put", "patch", "delete") if hasattr(_class_of(self.view), name)]
        return [name for name in found if name not in ("get", "head", "options")] if self.is_api else ["post"]


def _class_of(view: Any) -> Any:
    return getattr(view, "cls", getattr(view, "view_class", None))


def addresses() -> list[Address]:
    found = list(_walk(get_resolver().url_patterns, ""))
    assert len(found) > 60
    return [address for address in found if not address.route.startswith("admin/")]


def _walk(patterns: Any, prefix: str) -> Iterator[Address]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield Address(route.replace("^", "").replace("$", ""), pattern.name or "", pattern.callback)
        else:
            yield from _walk(pattern.url_patterns, route)


def ids() -> list[Any]:
    return [pytest.param(address, id=address.route or "/") for address in addresses()]


@pytest.fixture
def world(runtime):  # noqa: F811 - the fixture imported above
    return World()


def fill(address: Address, world: World, *, slug: str | None = None) -> str:
    """The address of Alice's thing; fails for a part it has no filling for."""

    def one(match: re.Match[str]) -> str:
        noun, name = match["noun"], match["name"]
        if name == "account":
            return f"{noun}/{slug or world.account.slug}" if noun else str(slug or world.account.slug)
        if name in WORDS:
            return f"{noun}/{WORDS[name]}"
        if noun not in THINGS:
            pytest.fail(f"THINGS says nothing about {noun!r}, which {address.route!r} needs.")
        if noun not in world.things:
            world.things[noun] = THINGS[noun](world)
        return f"{noun}/{world.things[noun].pk}"

    path = address.route
    while "<" in path:
        path = re.sub(r"(?P<noun>[\w-]*)/<(?:\w+:)?(?P<name>\w+)>", one, path, count=1)
        path = re.sub(r"^(?P<noun>)<(?:\w+:)?(?P<name>\w+)>", one, path, count=1)
    if address.route.endswith("artifacts/<artifact:path>"):
        row = {"path": WORDS["path"], "content_type": "application/json", "size": 2, "content": b"{}"}
        Artifact.objects.create(execution=world.execution, **row)
    return "/" + path


def client_of(user: Any = None) -> Client:
    client = Client(raise_request_exception=True)
    if user is not None:
        client.force_login(user)
    return client


def call(client: Client, method: str, path: str) -> Any:
    if method == "get" or "/api/v1/" not in path:
        return getattr(client, method)(path)
    return client.generic(method.upper(), path, b"{}", content_type="application/json", HTTP_IDEMPOTENCY_KEY="walk")


@pytest.mark.parametrize("address", ids())
def test_anonymous_gets_nowhere_but_where_all_may(address, world):
    path = fill(address, world)

    for method in ["get", *address.methods]:
        response = call(client_of(), method, path)
        if address.name in OPEN:
            assert response.status_code < 500 or address.name == "health"
        elif response.status_code == 302:
            assert response.url.startswith("/sign-in/")
        else:
            assert response.status_code in (401, 403, 404, 405), (method, path, response.status_code)


@pytest.mark.parametrize("address", ids())
def test_charlie_finds_nothing_of_alice_s(address, world):
    charlie = factories.make_user("Charlie")
    own = factories.make_account(charlie, name="Charlie & Co")
    client = client_of(charlie)

    if address.is_page_of_account:
        for method in ("get", "post"):
            assert call(client, method, fill(address, world)).status_code == 404
    if not address.nouns:
        return
    path = fill(address, world, slug=own.slug)
    missing = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", NO_SUCH_ID, path)
    for method in ["get", *address.methods]:
        status = call(client, method, path).status_code
        # 404; or what a thing that does not exist gets too (403: the machine's things, 400: the body comes first).
        assert status in (404, 405, 403, 400), (method, path, status)
        assert status in (404, 405) or status == call(client, method, missing).status_code, (method, path, status)


@pytest.mark.parametrize("address", ids())
def test_a_viewer_sees_and_changes_nothing(address, world):
    vera = factories.make_viewer(world.account)
    client, path = client_of(vera), fill(address, world)
    if not (address.is_api or address.is_page_of_account) or address.route in HARMLESS:
        return

    seen = call(client, "get", path)
    assert seen.status_code in (200, 304, 403, 404, 405) or (seen.status_code == 400 and address.is_api), path
    for method in address.methods:
        response = call(client, method, path)
        assert response.status_code in (403, 404, 405), (method, path, response.status_code)
        # Pages of staff are not there at all; every other write says that the role is missing.
        assert response.status_code != 404 or address.is_api or seen.status_code == 404, (method, path)
    is_html = seen.headers.get("Content-Type", "").startswith("text/html")
    if seen.status_code == 200 and address.is_page_of_account and is_html and not seen.streaming:
        posts = re.findall(r'<form[^>]*method="post"[^>]*action="([^"]*)"', seen.content.decode())
        own = [action for action in posts if "/remove/" not in action and action != "/sign-out/"]
        assert own == [], f"a viewer gets forms on {path}"


@pytest.mark.parametrize("address", ids())
def test_stella_sees_everything(address, world):
    stella = factories.make_staff()
    factories.make_account(stella, name="Operators")
    path = fill(address, world)
    query = f"?account={world.account.slug}" if address.is_api else ""
    if address.name in (OPEN - {"metrics", "health", "api-docs"}) | {"test-clock"}:
        return

    status = call(client_of(stella), "get", path + query).status_code

    assert status in (200, 204, 302, 400, 405, 410) or (address.name == "health" and status == 503), (path, status)


@pytest.mark.parametrize("address", [one for one in ids() if one.values[0].is_api])
def test_every_write_of_the_api_says_which_fields_it_takes(address):
    """The parser can refuse only what it knows to be unknown."""
    kind = _class_of(address.view)
    for method in address.methods:
        if kind is None or method == "delete":
            continue
        view = kind(**getattr(address.view, "initkwargs", {}))
        view.request, view.kwargs, view.format_kwarg = None, {}, None
        view.action = (getattr(address.view, "actions", None) or {}).get(method, method)

        assert schema.has_request_body(view), (address.route, method)
