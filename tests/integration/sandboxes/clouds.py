"""The adapter of the E2B cloud on the fake one, for tests."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from sandboxes.runtimes.e2b.cloud import Plan
from sandboxes.runtimes.e2b.runtime import E2BRuntime
from tests.fake_e2b import FakeE2B


def make_plan(fake: FakeE2B, **changes: Any) -> Plan:
    plan: dict[str, Any] = {
        "api_key": fake.key,
        "templates": {"python": "code-interpreter-v1", "node": "base"},
        "memory_mb": 1024,
        "api_url": fake.url,
        "sandbox_url": fake.url,
    }
    return Plan(**plan | changes)


@dataclass
class FakeCloud:
    fake: FakeE2B
    runtime: E2BRuntime = field(init=False)

    def __post_init__(self) -> None:
        self.runtime = self.with_plan()

    def with_plan(self, **changes: Any) -> E2BRuntime:
        return E2BRuntime(make_plan(self.fake, **changes))


def wait_for_the_last() -> None:
    """A run answers before its sandbox is killed; that happens in a thread which this waits for."""
    for thread in threading.enumerate():
        if thread.name.startswith("e2b-"):
            thread.join(20)
