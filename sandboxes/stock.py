"""The built templates that this machine has, and bringing what it lacks: a node installs the lock of the first build.

has(address)      as the daemon says
fetch(address)    begins to install it, in a thread of its own; says why the last try failed, if it did lately
"""

from __future__ import annotations

import logging
import threading
import time
import uuid

from django.db import connection

from sandboxes import engine
from sandboxes.models import Build
from sandboxes.runtimes import BuildRequest, Built, InvalidRequest, RuntimeLost, RuntimeUnavailable

REMEMBER_SECONDS = 60.0
log = logging.getLogger(__name__)
_fetching: dict[str, threading.Thread] = {}
_problems: dict[str, tuple[float, str]] = {}
_lock = threading.Lock()


def has(address: str) -> bool:
    return address in engine.describe().get("templates", ())


def fetch(address: str) -> str | None:
    """This will have it here after a while. Returns why that failed a moment ago, else None."""
    with _lock:
        at, problem = _problems.get(address, (0.0, ""))
        if problem and time.monotonic() - at < REMEMBER_SECONDS:
            return problem
        if address not in _fetching:
            thread = threading.Thread(target=_install, args=(address,), name="template-fetch", daemon=True)
            _fetching[address] = thread
            thread.start()
    return None


def wait() -> None:
    """Until nothing is being brought any more."""
    for thread in list(_fetching.values()):
        thread.join()


def _install(address: str) -> None:
    try:
        problem = _build(address).reason
    except (RuntimeLost, RuntimeUnavailable, InvalidRequest) as failed:
        problem = str(failed)
    except Exception as failed:  # noqa: BLE001 - whatever it was, who waits for it must hear of it
        log.exception("the template %s could not be brought here", address)
        problem = f"The template could not be brought to this node: {failed}"
    finally:
        connection.close()
    engine.forget()
    with _lock:
        _problems.pop(address, None)
        if problem:
            _problems[address] = (time.monotonic(), problem)
        del _fetching[address]


def _build(address: str) -> Built:
    build = Build.objects.filter(address=address, state=Build.State.READY).first()
    if build is None:
        return Built(reason="Its template is no longer there.")
    request = BuildRequest(
        id=f"fetch-{uuid.uuid4().hex}",
        address=address,
        language=build.language,
        packages=tuple(build.packages),
        lock=build.lock,
    )
    return engine.runtime().build(request, on_output=lambda *_: None)
