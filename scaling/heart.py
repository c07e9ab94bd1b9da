"""The heart of a process: a thread that measures its machine every second and reports it.

    heart.start("web")        once, in each process that is to be seen: web, worker, scheduler, sandboxes

All processes of a machine beat into one node (`NTD_NODE_NAME`, else the host's name); each keeps its own
line under `metadata.processes`. One beat a second is enough for the machine, so a process beats when no other
has within the last second, and now and then to be seen itself. Nobody leads, so nobody needs to be replaced.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.db import DatabaseError, connection

from scaling import probes

BEAT_SECONDS = 1.0
# Each process tells its own line this often.
OWN_SECONDS = 4.0
log = logging.getLogger(__name__)
_started: dict[str, Heart] = {}


class Heart:
    """Beats until stopped. A beat that cannot be written is missed, and is for others to notice."""

    def __init__(self, probe: probes.Probe) -> None:
        self._probe = probe
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heart-{probe.process}", daemon=True)
        self._is_failing = False
        # Its age is that of the machine's last beat, whichever of its processes that was.
        self._beaten = Path(settings.NTD_HOME) / f"beaten-{quote(probes.node_name(), safe='')}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        last = float("-inf")
        while not self._stopped.is_set():
            if time.monotonic() - last >= OWN_SECONDS or self.is_silent():
                self.beat()
                last = time.monotonic()
            self._stopped.wait(BEAT_SECONDS)
        connection.close()

    def is_silent(self) -> bool:
        """Whether nobody has beaten for this machine since our last look."""
        try:
            return time.time() - self._beaten.stat().st_mtime > BEAT_SECONDS * 0.9
        except FileNotFoundError:
            return True

    def beat(self) -> None:
        try:
            self._probe.report()
            self._beaten.touch()
            self._is_failing = False
        except DatabaseError as error:
            if not self._is_failing:
                log.warning("The heart of %s cannot report: %s", self._probe.process, error)
            self._is_failing = True
            connection.close()
        except Exception:  # noqa: BLE001 - a heart that stops would say the machine is dead
            log.exception("A beat of %s failed", self._probe.process)
            connection.close()


def start(process: str, **measured: Callable[[], Any]) -> Heart:
    """This will beat for this process from now on; a second call for the same kind changes nothing.

    `measured` are what else `probes.Probe` takes: in_flight, error_rate, others, tells.
    """
    if process not in _started:
        _started[process] = Heart(probes.Probe(process, **measured))
        _started[process].start()
    return _started[process]


def stop() -> None:
    """Stop every heart of this process, for a clean end."""
    while _started:
        _started.popitem()[1].stop()
