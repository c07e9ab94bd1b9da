"""What the drawing of a federation costs on the server, and how long until it is seen, with 5 to 2,000 agents.

Server time is CPU of this process. `first paint` is the browser's own clock, from asking a running product for the
page until the agents are on the canvas; without Chromium it is left out.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from django.conf import settings
from django.test import Client
from django.utils import timezone
from playwright.sync_api import BrowserContext, sync_playwright

from billing import accounts
from billing.models import User
from federation import coordination
from federation.models import Agent, Federation
from tests.bench.harness import Bench, Case
from tests.product import Product, free_port

SIZES = (5, 50, 300, 2000)
SHAPES = ("mesh", "ring", "star", "hierarchical")
PAINTED = "performance.getEntriesByName('topology-painted').map(entry => entry.startTime)[0] || 0"
PATIENCE_SECONDS = 20
FIRST = "first paint, mesh of 5"
FLAGS = ["--no-sandbox", "--disable-gpu"]


def _make(account: object, shape: str, size: int) -> Federation:
    now = timezone.now()
    federation = coordination.create_federation(
        account=account, name=f"{shape} of {size}", topology=shape, max_agents=2000, by=None, now=now
    )
    Agent.objects.bulk_create(
        Agent(
            federation=federation, name=f"agent-{number}", position=number + 10, created_at=now, last_heartbeat_at=now
        )
        for number in range(size - 1)
    )
    coordination.add_agent(federation=federation, name="leader", now=now)
    return federation


def _cpu(work: Callable[[], object]) -> Case:
    def case() -> float:
        before = time.process_time()
        work()
        return time.process_time() - before

    return case


def first_paint(context: BrowserContext, address: str) -> Case:
    def case() -> float:
        page = context.new_page()
        page.goto(address)
        end = time.monotonic() + PATIENCE_SECONDS
        while not (painted := float(page.evaluate(PAINTED))) and time.monotonic() < end:
            page.wait_for_timeout(20)
        page.close()
        assert painted, f"nothing was drawn at {address}"
        return painted / 1000

    return case


@contextmanager
def _browser(client: Client) -> Iterator[tuple[BrowserContext, str] | None]:
    """A signed-in Chromium and the address of a product over this benchmark's own servers."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        yield None
        return
    # Playwright keeps an event loop in this thread, beside which Django would refuse the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    product = Product(Path(os.environ["NTD_HOME"]), free_port())
    product.environment |= {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
    with ExitStack() as stack:
        stack.callback(product.stop)
        product.start("--no-sample")
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        stack.callback(browser.close)
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        name = settings.SESSION_COOKIE_NAME
        context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": product.url}])
        yield context, product.url


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    user = User.objects.create_user("bench-topology@example.com", "x", name="Bench")
    account = accounts.open_account(name="Bench topology", owner=user)
    made = {(shape, size): _make(account, shape, size) for shape in SHAPES for size in SIZES}
    client = Client()
    client.force_login(user)
    place = f"/o/{account.slug}/federations"

    def get(path: str) -> Case:
        def once() -> None:
            answer = client.get(path, headers={"accept-encoding": "gzip"})
            assert answer.status_code == 200, (path, answer.status_code)

        return _cpu(once)

    found = {"robots.txt": get("/static/robots.txt")}
    for (shape, size), federation in made.items():
        if shape in ("mesh", "hierarchical"):
            found[f"page, {shape} of {size}"] = get(f"{place}/{federation.pk}/")
            found[f"graph, {shape} of {size}"] = get(f"{place}/{federation.pk}/graph.json")
    with _browser(client) as opened:
        if opened is not None:
            context, url = opened
            for (shape, size), federation in made.items():
                address = f"{url}{place}/{federation.pk}/"
                found[f"first paint, {shape} of {size}"] = first_paint(context, address)
        yield found


BENCH = Bench(
    name="topology",
    baseline="robots.txt",
    cases=cases,
    rounds=3,
    repeats=3,
    baselines={f"first paint, {shape} of {size}": FIRST for shape in SHAPES for size in SIZES},
    note="page, graph: CPU of the server's process; first paint: the browser's clock, goal 1.5 s with 2,000 agents",
)
