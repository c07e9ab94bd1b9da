"""Which runtimes run code here, and whether they can.

A runtime is registered under a name when the app starts; what it says of itself is kept for a moment,
since every submission asks whether anything can run at all.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings

from sandboxes.runtimes import E2B, LOCAL, NAMES, Needs, Runtime, RuntimeLost, RuntimeUnavailable

FRESH_SECONDS = 2.0
STALE_SECONDS = 10.0
RETRY_AFTER_SECONDS = 5
NOTHING_SAID: dict[str, Any] = {
    "engine": None,
    "since": None,
    "why": "",
    "promises": [],
    "limits": {},
    "languages": [],
    "network": "off",
    "probes": [],
    "pools": {},
    "reasons": [],
}

NOT_SET_UP = {
    LOCAL: "This process knows no sandbox daemon.",
    E2B: "E2B is not set up here: the operator has to set E2B_API_KEY.",
}

_runtimes: dict[str, Runtime] = {}
_offers: dict[str, Callable[[], Runtime]] = {}
_making = threading.Lock()
_said: dict[str, tuple[float, dict[str, Any]]] = {}
_locks = {name: threading.Lock() for name in NAMES}


class EngineUnavailable(Exception):
    """Raised when nothing can run code that it may run on; `reasons` says what was tried."""

    code = "sandbox_error"
    retry_after = RETRY_AFTER_SECONDS

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons
        super().__init__("No sandbox can run code at the moment. " + " ".join(reasons))

    @property
    def extras(self) -> dict[str, list[str]]:
        return {"reasons": self.reasons}


def node() -> str:
    """This machine's name, as rows and queues call it."""
    return str(settings.NODE_NAME or socket.gethostname())


def register(name: str, runtime: Runtime) -> None:
    _runtimes[name] = runtime
    _said.pop(name, None)


def offer(name: str, make: Callable[[], Runtime]) -> None:
    """Register a runtime that costs something to have: it is made when it is first asked for."""
    _offers[name] = make


def withdraw(name: str) -> None:
    """This will leave the runtime as one that was never set up."""
    _runtimes.pop(name, None)
    _offers.pop(name, None)
    _said.pop(name, None)


def names() -> list[str]:
    """The runtimes that are set up here, whether they can run anything now or not."""
    return [name for name in NAMES if name in _runtimes or name in _offers]


def rooms() -> dict[str, int]:
    """How many sandboxes may run at once on each runtime that is set up here."""
    most = {LOCAL: settings.MAX_SANDBOXES, E2B: settings.E2B_MAX_SANDBOXES}
    return {name: most[name] for name in names()}


def runtime(name: str = LOCAL) -> Runtime:
    """Raises RuntimeUnavailable."""
    with _making:
        if name not in _runtimes and name in _offers:
            _runtimes[name] = _offers[name]()
    if name not in _runtimes:
        raise RuntimeUnavailable([NOT_SET_UP.get(name, f"There is no runtime {name}.")])
    return _runtimes[name]


def objections(needs: Needs) -> dict[str, dict[str, str]]:
    """What each runtime that is set up here could not keep; an empty one could run this."""
    return {name: runtime(name).objections(needs) for name in names()}


def describe(name: str = LOCAL) -> dict[str, Any]:
    """What the runtime says of itself, at most a moment old; without an `engine` there are `reasons`."""
    with _locks[name]:
        at, said = _said.get(name, (0.0, None))
        if said is None or time.monotonic() - at > FRESH_SECONDS:
            said = _ask(name)
            _said[name] = (time.monotonic(), said)
        return said


def describe_anew(name: str = LOCAL) -> dict[str, Any]:
    """What the runtime says of itself now."""
    forget(name)
    return describe(name)


def last_said(name: str = LOCAL) -> dict[str, Any]:
    """What the runtime said when it was last asked, without asking; nothing when that is long ago or it failed."""
    at, said = _said.get(name, (0.0, {}))
    return said if time.monotonic() - at < STALE_SECONDS else {}


def _ask(name: str) -> dict[str, Any]:
    try:
        said = NOTHING_SAID | runtime(name).describe()
    except RuntimeUnavailable as unavailable:
        return NOTHING_SAID | {"reasons": unavailable.reasons}
    except RuntimeLost as lost:
        return NOTHING_SAID | {"reasons": [str(lost)]}
    if not said["engine"] and not said["reasons"]:
        said["reasons"] = [f"{probe['engine']}: {reason}" for probe in said["probes"] for reason in probe["reasons"]]
    return said


def reasons(name: str) -> list[str]:
    """Why a runtime cannot run anything now; empty when it can."""
    said = describe(name)
    return [] if said["engine"] else said["reasons"] or ["The sandbox daemon found no engine."]


def is_up(name: str = LOCAL) -> bool:
    return bool(describe(name)["engine"])


def up() -> list[str]:
    """The runtimes that can run something now."""
    return [name for name in names() if is_up(name)]


def forget(name: str = LOCAL) -> None:
    """This will have the runtime asked anew: it has just failed."""
    with _locks[name]:
        _said.pop(name, None)


def require(wanted: Iterable[str] = (LOCAL,)) -> None:
    """This will raise EngineUnavailable when none of these runtimes can run code."""
    found = {name: reasons(name) for name in wanted}
    if all(found.values()):
        raise EngineUnavailable([reason for said in found.values() for reason in said])


def why_not(wanted: Iterable[str] = (LOCAL,)) -> EngineUnavailable | None:
    """Why none of these runtimes can run code; None when one can."""
    try:
        require(wanted)
    except EngineUnavailable as unavailable:
        return unavailable
    return None
