"""A runtime that does what a test tells it, at once: for tests of what happens around a run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sandboxes import engine, keeping, stock
from sandboxes.runtimes import (
    E2B,
    BuildRequest,
    Built,
    Held,
    Needs,
    OnOutput,
    OnSample,
    OnStarted,
    Opening,
    Outcome,
    Request,
    RuntimeLost,
    RuntimeUnavailable,
    Sample,
    SandboxGone,
    Size,
    Started,
)


def outcome(**changes: Any) -> Outcome:
    """A program that ended well after 250 ms, with changes."""
    fields: dict[str, Any] = {
        "exit_code": 0,
        "signal": None,
        "breach": None,
        "cancelled": False,
        "stdout": b"",
        "stderr": b"",
        "stdout_truncated": False,
        "stderr_truncated": False,
        "artifacts": (),
        "artifacts_truncated": (),
        "duration_ms": 250.0,
        "startup_ms": 1.5,
        "cpu_ms": 20.0,
        "peak_memory_bytes": 9_000_000,
        "disk_bytes": 4096,
        "network_sent_bytes": 0,
        "network_received_bytes": 0,
    }
    return Outcome(**fields | changes)


class ScriptedRuntime:
    """`script(request)` says how a run ends (returns an Outcome or raises); `during` happens while it runs.

    It may say what it uses by `tell_sample`.
    """

    name = "scripted"

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.cancelled: list[str] = []
        self.running: set[str] = set()
        self.reasons: list[str] = []
        self.script: Callable[[Request], Outcome] = lambda request: outcome()
        self.before: Callable[[Request], None] = lambda request: None
        self.during: Callable[[Request, OnOutput], None] = lambda request, on_output: None
        self.tell_sample: OnSample = lambda sample: None
        self.described = 0
        self.sizes: dict[str, Size] = {}
        self.refuses: dict[str, str] = {}
        self.builds: list[BuildRequest] = []
        self.build_script: Callable[[BuildRequest, OnOutput], Built] = lambda request, on_output: Built("lock", 1000)
        self.templates: set[str] = set()
        self.cannot_build = {"python": "", "node": ""}
        self.kept: dict[str, Opening] = {}
        self.ended: dict[str, str] = {}
        self.extended: list[tuple[str, float]] = []
        self.opening: Callable[[Opening], None] = lambda opening: None
        self._lock = threading.Lock()

    def objections(self, needs: Needs) -> dict[str, str]:
        return dict(self.refuses)

    def run(
        self, request: Request, *, on_started: OnStarted, on_output: OnOutput, on_sample: OnSample | None = None
    ) -> Outcome:
        with self._lock:
            self.requests.append(request)
        self.tell_sample = on_sample or self.tell_sample
        self.before(request)
        self._find(request.sandbox)
        ended = self.script(request)
        self.running.add(request.id)
        on_started(
            Started(sandbox=request.sandbox or f"slot-{len(self.requests)}", warm=True, startup_ms=ended.startup_ms)
        )
        self.during(request, on_output)
        self.running.discard(request.id)
        self._find(request.sandbox)
        if request.id in self.cancelled:
            return outcome(cancelled=True, exit_code=None, signal=9, stdout=ended.stdout, stderr=ended.stderr)
        return ended

    def cancel(self, request_id: str) -> bool:
        self.cancelled.append(request_id)
        return request_id in self.running

    def resize(self, language: str, size: Size, *, template: str = "") -> None:
        if self.reasons:
            raise RuntimeUnavailable(self.reasons)
        self.sizes[f"{language}:{template}" if template else language] = size

    def build(self, request: BuildRequest, *, on_output: OnOutput) -> Built:
        with self._lock:
            self.builds.append(request)
        built = self.build_script(request, on_output)
        if not built.reason:
            self.templates.add(request.address)
        return built

    def discard(self, address: str) -> bool:
        if address not in self.templates:
            return False
        self.templates.remove(address)
        return True

    def open(self, opening: Opening) -> None:
        """`opening` of the test may raise, or let something happen meanwhile."""
        self.opening(opening)
        if self.reasons:
            raise RuntimeUnavailable(self.reasons)
        self.kept[opening.id] = opening

    def extend(self, sandbox: str, seconds: float) -> None:
        self._find(sandbox)
        self.extended.append((sandbox, seconds))

    def close(self, sandbox: str) -> bool:
        return self.die(sandbox, "It was closed.")

    def die(self, sandbox: str, reason: str) -> bool:
        self.ended[sandbox] = reason
        return self.kept.pop(sandbox, None) is not None

    def _find(self, sandbox: str) -> None:
        if sandbox and sandbox not in self.kept:
            raise SandboxGone(self.ended.get(sandbox, "There is no such sandbox here."))

    def describe(self) -> dict[str, Any]:
        self.described += 1
        if self.reasons:
            raise RuntimeUnavailable(self.reasons)
        pool = {"ready": 2, "running": 0, "starting": 0, "draining": 0, "failed": 0}
        return {
            "engine": "scripted",
            "promises": ["nothing leaves"],
            "limits": {"memory": "cgroup v2"},
            "probes": [{"engine": "scripted", "ok": True, "reasons": []}],
            "pools": {"python": pool, "node": dict(pool)},
            "pool_sizes": {
                name: vars(self.sizes.get(name, Size(4, 10, 0, 3600))) for name in {"python", "node", *self.sizes}
            },
            "templates": sorted(self.templates),
            "builds": dict(self.cannot_build),
            "process": os.getpid(),
            "kept": {"most": 10, "sandboxes": [self._said(each) for each in self.kept.values()], "ended": self.ended},
        }

    def _said(self, opening: Opening) -> dict[str, Any]:
        last = [seconds for sandbox, seconds in self.extended if sandbox == opening.id][-1:]
        left = last[0] if last else opening.expires_in_seconds
        return {"id": opening.id, "language": opening.language, "state": "idle", "expires_in_seconds": left}


def sample(at_ms: int, **changes: int) -> Sample:
    """What a program uses that keeps half a core busy and 9 MB."""
    return Sample(**{"at_ms": at_ms, "cpu_ms": at_ms // 2, "memory_bytes": 9_000_000, "disk_bytes": 4096} | changes)


@pytest.fixture
def runtime(monkeypatch):
    """A scripted runtime in the place of the machine's own. Nobody works, so nobody waits for a sandbox either."""
    monkeypatch.setattr(keeping, "WAIT_SECONDS", 0.0)
    # What another test could not bring is no news here.
    monkeypatch.setattr(stock, "_problems", {})
    real = engine.runtime()
    scripted = ScriptedRuntime()
    engine.register(engine.LOCAL, scripted)
    yield scripted
    engine.register(engine.LOCAL, real)


class ScriptedCloud(ScriptedRuntime):
    """One whose sandboxes are elsewhere: `left` is what it holds, `killed` what it was told to end."""

    name = "scripted cloud"

    def __init__(self) -> None:
        super().__init__()
        self.left: dict[str, str] = {}
        self.killed: list[str] = []

    def held(self) -> list[Held]:
        if self.reasons:
            raise RuntimeLost(self.reasons[0])
        return [Held(sandbox, request_id) for sandbox, request_id in self.left.items()]

    def kill(self, sandbox: str) -> bool:
        self.killed.append(sandbox)
        return self.left.pop(sandbox, None) is not None


@pytest.fixture
def e2b():
    """A scripted runtime in the place of the E2B cloud, which is not set up otherwise."""
    scripted = ScriptedCloud()
    engine.register(E2B, scripted)
    yield scripted
    engine.withdraw(E2B)
