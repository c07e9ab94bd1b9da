"""Which runtimes run code here, and whether they can.

A runtime is registered under a name when the app starts; what it says of itself is kept for a moment,
since every submission asks whether anything can run at all.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from django.conf import settings

from sandboxes.runtimes import Runtime, RuntimeLost, RuntimeUnavailable

LOCAL = "local"
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

_runtimes: dict[str, Runtime] = {}
_said: dict[str, tuple[float, dict[str, Any]]] = {}
_lock = threading.Lock()


class EngineUnavailable(Exception):
    """Raised when nothing on this machine can run code; `reasons` says what was tried."""

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


def runtime(name: str = LOCAL) -> Runtime:
    return _runtimes[name]


def describe(name: str = LOCAL) -> dict[str, Any]:
    """What the runtime says of itself, at most a moment old; without an `engine` there are `reasons`."""
    with _lock:
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


def is_up(name: str = LOCAL) -> bool:
    return bool(describe(name)["engine"])


def forget(name: str = LOCAL) -> None:
    """This will have the runtime asked anew: it has just failed."""
    with _lock:
        _said.pop(name, None)


def require(name: str = LOCAL) -> None:
    """This will raise EngineUnavailable when nothing can run code."""
    unavailable = why_not(name)
    if unavailable is not None:
        raise unavailable


def why_not(name: str = LOCAL) -> EngineUnavailable | None:
    """Why nothing can run code; None when something can."""
    said = describe(name)
    return None if said["engine"] else EngineUnavailable(said["reasons"] or ["The sandbox daemon found no engine."])
