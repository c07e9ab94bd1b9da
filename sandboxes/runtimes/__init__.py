"""What a runtime is: a place that runs one request and says truthfully what happened.

`local` asks this machine's sandbox daemon, `e2b` the E2B cloud. Every runtime passes the same contract tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from sandboxes.limits import Limits

LOCAL = "local"
E2B = "e2b"
NAMES = (LOCAL, E2B)
LABELS = {LOCAL: "own nodes", E2B: "E2B cloud"}


@dataclass(frozen=True)
class Needs:
    """What of a request decides whether a runtime could ever run it; `template` as in Request."""

    language: str
    timeout_seconds: float
    limits: Limits
    template: str = ""
    network: bool = False


@dataclass(frozen=True)
class Request:
    """`id` is unique per attempt; `template` is "" or a built one's content address; `sandbox` names a kept one."""

    id: str
    language: str
    code: str
    template: str = ""
    stdin: bytes = b""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    timeout_seconds: float = 60
    limits: Limits = field(default_factory=Limits)
    network: bool = False
    sandbox: str = ""


@dataclass(frozen=True)
class Opening:
    """A sandbox to keep: it serves one request after another until its time is over."""

    id: str
    language: str
    expires_in_seconds: float
    template: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=lambda: Limits.parse_kept({}))
    network: bool = False


@dataclass(frozen=True)
class Started:
    sandbox: str
    warm: bool
    startup_ms: float


@dataclass(frozen=True)
class Sample:
    """What a program used up to a moment of its run, and what it held then."""

    at_ms: int
    cpu_ms: int
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class Artifact:
    path: str
    content: bytes


@dataclass(frozen=True)
class Outcome:
    exit_code: int | None
    signal: int | None
    breach: str | None
    cancelled: bool
    stdout: bytes
    stderr: bytes
    stdout_truncated: bool
    stderr_truncated: bool
    artifacts: tuple[Artifact, ...]
    artifacts_truncated: tuple[str, ...]
    duration_ms: float
    startup_ms: float
    cpu_ms: float
    peak_memory_bytes: int
    disk_bytes: int
    network_sent_bytes: int
    network_received_bytes: int


@dataclass(frozen=True)
class Size:
    """How many sandboxes of a language a node keeps ready at least, how many may run at once, and for how long."""

    ready: int
    running: int
    idle_timeout_seconds: int
    max_age_seconds: int


@dataclass(frozen=True)
class BuildRequest:
    """Packages to install under an address; with a `lock` exactly what an earlier build of them resolved to."""

    id: str
    address: str
    language: str
    packages: tuple[str, ...]
    lock: str = ""


@dataclass(frozen=True)
class Built:
    """How a build ended: with a lock and a size, or with the reason why the packages cannot be had."""

    lock: str = ""
    size_bytes: int = 0
    reason: str = ""


class RuntimeLost(Exception):
    """The runtime failed, not the program: safe to retry on another slot."""


class RuntimeUnavailable(Exception):
    """This machine cannot run the request, and `reasons` says why."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = list(reasons)
        super().__init__("Executions cannot run here: " + "; ".join(self.reasons))


class SandboxBusy(Exception):
    """The kept sandbox serves another request at this moment."""


class SandboxGone(Exception):
    """The kept sandbox has ended, and its files with it; the text says why."""


class InvalidRequest(ValueError):
    """The request itself is wrong (a path with `..`, a NUL, an unknown language): never retry it."""


OnStarted = Callable[[Started], None]
OnOutput = Callable[[str, int, bytes], None]
OnSample = Callable[[Sample], None]


class Runtime(Protocol):
    name: str

    def objections(self, needs: Needs) -> dict[str, str]:
        """What it could not keep, as a sentence for each field; empty when it could run this. Asks nobody."""
        ...

    def run(
        self, request: Request, *, on_started: OnStarted, on_output: OnOutput, on_sample: OnSample | None = None
    ) -> Outcome:
        """Block until the program is dead. Raises RuntimeLost, RuntimeUnavailable, InvalidRequest.

        `on_sample` is told a few times a second what it uses, of a run that is longer than a moment.
        In a kept sandbox it may also raise SandboxBusy and SandboxGone; limits and environment are then its own,
        and the request's environment comes on top.
        """
        ...

    def cancel(self, request_id: str) -> bool:
        """True when it was running here; its `run` then answers within 200 ms."""
        ...

    def resize(self, language: str, size: Size, *, template: str = "") -> None:
        """`describe` then says it under `pool_sizes`. Raises RuntimeLost, RuntimeUnavailable, InvalidRequest."""
        ...

    def build(self, request: BuildRequest, *, on_output: OnOutput) -> Built:
        """Block until the packages are installed or cannot be; at once when they are. Raises as `run` does.

        `describe` says under `templates` what is here, and under `builds` why a language's packages cannot be had.
        """
        ...

    def discard(self, address: str) -> bool:
        """True when it was here, in no use, and is gone now."""
        ...

    def open(self, opening: Opening) -> None:
        """Make a sandbox to keep; one that is there already stays as it is.

        Raises RuntimeLost, RuntimeUnavailable, InvalidRequest, and SandboxGone for an id that has ended.
        """
        ...

    def extend(self, sandbox: str, seconds: float) -> None:
        """It ends no sooner than in so many seconds. Raises RuntimeLost, InvalidRequest, SandboxGone."""
        ...

    def close(self, sandbox: str) -> bool:
        """True when it was here; it and what ran in it are dead then. Raises RuntimeLost."""
        ...

    def describe(self) -> dict[str, Any]:
        """What it is and has; `process` is its process id here, when it is one of this machine's.

        `kept`: {most, sandboxes: [{id, language, state, expires_in_seconds}], ended: {id: why}}.
        """
        ...


@dataclass(frozen=True)
class Held:
    """A sandbox that exists elsewhere, and the attempt it was made for."""

    sandbox: str
    request_id: str


@runtime_checkable
class Remote(Protocol):
    """What a runtime has beside that whose sandboxes are not this machine's, and may outlive who made them."""

    def held(self) -> list[Held]:
        """Every sandbox that was made for an execution. Raises RuntimeLost, RuntimeUnavailable."""
        ...

    def kill(self, sandbox: str) -> bool:
        """False when it was gone already. Raises RuntimeLost, RuntimeUnavailable."""
        ...
