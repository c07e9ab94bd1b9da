"""Builds templates: installs packages in a sandbox of their own, which reaches the registries and nothing else.

    BUILD --> a slot with pip or npm in it --what they say--> the client, as a run's output
                  \\--what they installed--> looked at, copied, read-only --> the shelf

No code of a package runs: only wheels for Python, no scripts for Node. The engine is always bubblewrap.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sandboxes.daemon import artifacts, registries
from sandboxes.daemon.engines import NotOffered
from sandboxes.daemon.jail import Bubblewrap
from sandboxes.daemon.outlets import Outlets
from sandboxes.daemon.registries import Registry
from sandboxes.daemon.run import Order, Run
from sandboxes.daemon.shelf import NotTaken, Shelf, tag
from sandboxes.daemon.slots import Slot
from sandboxes.limits import Limits

LANGUAGES = ("python", "node")
AT_ONCE = 2
LONGEST_SECONDS = 600
# What is fetched and what is made of it lie beside each other in memory for a moment.
LIMITS = Limits(cpu=2.0, memory_mb=4096, disk_mb=3072, processes=128, output_kb=4096)
INODES = 400_000
INSTALL = Path(__file__).parent / "inside" / "install.py"
BREACHES = {
    "timeout": f"It took longer than {LONGEST_SECONDS // 60} minutes.",
    "memory": "Installing it takes more memory than a build has.",
    "disk": "The packages are too large.",
    "output": "The package tool said more than a build may.",
    "processes": "The package tool started more processes than a build may.",
}


@dataclass(frozen=True)
class BuildOrder:
    """A checked request; `lock` is what an earlier build of the same resolved to, or nothing."""

    id: str
    address: str
    language: str
    packages: tuple[str, ...]
    lock: str


@dataclass(frozen=True)
class Built:
    """How a build ended: with a lock and a size, or with a reason."""

    lock: str = ""
    size_bytes: int = 0
    reason: str = ""

    def as_fields(self) -> dict[str, object]:
        return {"lock": self.lock, "size_bytes": self.size_bytes, "reason": self.reason}


class Abandoned(Exception):
    """Who asked for the build is gone, or has cancelled it."""


class Builder:
    def __init__(self, *, jail: Bubblewrap, shelf: Shelf, outlets: Outlets) -> None:
        self.shelf = shelf
        self._jail = jail
        self._outlets = outlets
        self._room = threading.Semaphore(AT_ONCE)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._registries: dict[str, Registry] = {}

    def offers(self) -> dict[str, str]:
        """For each language why its packages cannot be installed here, or nothing."""
        if not self._jail.is_probed:
            return dict.fromkeys(LANGUAGES, "templates are built with bubblewrap, which is not in use on this node")
        return {language: registries.why_not(language, self._jail.place.node) for language in LANGUAGES}

    def build(
        self, order: BuildOrder, *, drive: Callable[[Run], None], run: dict, abandoned: Callable[[], bool]
    ) -> Built:
        """Installs it unless it is here. Raises Abandoned, NotOffered, CannotStart, SlotLost, OutletLost."""
        with self._turn(order.address, abandoned):
            if self.shelf.has(order.address):
                return Built(self.shelf.lock(order.address), self.shelf.size(order.address))
            registry = self._registry(order.language)
            with self._slot(registry) as slot:
                outlet = self._outlets.open(slot.listener, registry.policy)
                try:
                    going = Run(slot=slot, order=_run_order(order, registry), outlet=outlet, **run)
                    drive(going)
                    return self._taken(order, going)
                finally:
                    outlet.close()

    @contextlib.contextmanager
    def _turn(self, address: str, abandoned: Callable[[], bool]) -> Iterator[None]:
        """One build of the same thing, so that the second finds it done; and not too many of all."""
        with contextlib.ExitStack() as held:
            for gate in (self._locks[address], self._room):
                while not gate.acquire(timeout=0.1):
                    if abandoned():
                        raise Abandoned
                held.callback(gate.release)
            yield

    def discard(self, address: str) -> bool:
        """Takes it off the shelf, if it is there and nobody builds it."""
        lock = self._locks[address]
        if not lock.acquire(blocking=False):
            return False
        try:
            self._jail.place.stage.release(self.shelf.place(address))
            return self.shelf.discard(address)
        finally:
            lock.release()

    def _registry(self, language: str) -> Registry:
        reason = self.offers()[language]
        if reason:
            raise NotOffered(reason)
        if language not in self._registries:
            self._registries[language] = registries.find(language, self._jail.place.node)
        return self._registries[language]

    @contextlib.contextmanager
    def _slot(self, registry: Registry) -> Iterator[Slot]:
        place = self._jail.place
        place = replace(place, certificates=registry.certificates or place.certificates)
        # It dies with the thread that started it, which is this build's own.
        zygote = self._jail.zygote("python", None, (), network=True, place=place, binds=registry.binds, inodes=INODES)
        try:
            slot = self._jail.slot(zygote)
            try:
                slot.arm(LIMITS)
                yield slot
            finally:
                slot.discard()
        finally:
            zygote.stop()

    def _taken(self, order: BuildOrder, run: Run) -> Built:
        if run.gone or run.stopped == "cancelled":
            raise Abandoned
        fields, blobs = run.outcome()
        if fields["exit_code"] != 0:
            return Built(reason=_reason(fields, run))
        lock = dict(zip(fields["artifacts"], blobs, strict=True))["lock"].decode()
        try:
            with _folder(run.slot.scratch, "workspace", "out") as out:
                return Built(lock, self.shelf.put(order.address, folder=out, lock=lock))
        except NotTaken as problem:
            return Built(reason=f"The packages cannot be used: {problem}")


def _run_order(order: BuildOrder, registry: Registry) -> Order:
    said = {
        "language": order.language,
        "packages": list(order.packages),
        "lock": order.lock,
        "tag": tag(order.address),
        "settings": registry.settings,
        "words": registry.words(),
    }
    files = {"build.json": json.dumps(said).encode()}
    code = INSTALL.read_bytes()
    return Order(order.id, "python", "", code, b"", (), {}, files, LONGEST_SECONDS, LIMITS, network=True)


def _reason(fields: dict[str, object], run: Run) -> str:
    if fields["breach"] in BREACHES:
        return BREACHES[str(fields["breach"])]
    words = run.streams[run.slot.stderr].tail.decode(errors="replace").strip().splitlines()
    return words[-1] if words else "The build ended without saying why."


@contextlib.contextmanager
def _folder(within: int, *names: str) -> Iterator[int]:
    with contextlib.ExitStack() as opened:
        for name in names:
            within = os.open(name, artifacts.OPEN_FOLDER, dir_fd=within)
            opened.callback(os.close, within)
        yield within
