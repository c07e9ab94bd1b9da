"""What a page costs on the server: the overview and a list against a static file, the smallest answer there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.test import Client
from django.utils import timezone

from billing import accounts
from billing.models import User
from sandboxes.models import Execution, Pool
from tests.bench.harness import Bench, Case, timed

ROWS = 500


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    user = User.objects.create_user("bench@example.com", "x", name="Bench")
    account = accounts.open_account(name="Bench pages", owner=user)
    _fill(account)
    client = Client()
    client.force_login(user)

    def get(path: str) -> Case:
        def once() -> None:
            answer = client.get(path)
            assert answer.status_code == 200, (path, answer.status_code)

        return timed(once)

    yield {
        "robots.txt": get("/static/robots.txt"),
        "overview": get(f"/o/{account.slug}/"),
        "executions": get(f"/o/{account.slug}/executions/"),
        "credits": get(f"/o/{account.slug}/billing/"),
    }


def _fill(account: object) -> None:
    pool = Pool.objects.filter(account=None, template__name="python").select_related("template").get()
    now = timezone.now()
    Execution.objects.bulk_create(
        Execution(
            account=account, pool=pool, template=pool.template, language="python", code="pass",
            state="succeeded", created_at=now, started_at=now, finished_at=now, exit_code=0,
        )
        for _ in range(ROWS)
    )  # fmt: skip


BENCH = Bench(name="page", baseline="robots.txt", cases=cases, repeats=10, note="server time in process, without a socket")
