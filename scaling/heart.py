"""The heart of a process: a thread that measures its machine every second and reports it.

    heart.start("web")        once, in each process that is to be seen: web, worker, scheduler, sandboxes

All processes of a machine beat into one node (`NTD_NODE_NAME`, else the host's name); each keeps its own
line under `metadata.processes`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, connection

from scaling import probes

BEAT_SECONDS = 1.0
log = logging.getLogger(__name__)
_started: dict[str, Heart] = {}


class Heart:
    """Beats until stopped. A beat that cannot be written is missed, and is for others to notice."""

    def __init__(self, probe: probes.Probe) -> None:
        self._probe = probe
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heart-{probe.process}", daemon=True)
        self._is_failing = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        self.beat()
        while not self._stopped.wait(BEAT_SECONDS):
            self.beat()
        connection.close()

    def beat(self) -> None:
        try:
            self._probe.report()
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

    `measured` are what else `probes.Probe` takes: in_flight, error_rate, others.
    """
    if process not in _started:
        _started[process] = Heart(probes.Probe(process, **measured))
        _started[process].start()
    return _started[process]


def stop() -> None:
    """Stop every heart of this process, for a clean end."""
    while _started:
        _started.popitem()[1].stop()
