"""The ladder of engines: the strongest one whose real run passes, or none and every reason why.

gvisor  >  bubblewrap  >  refuse          nothing weaker is ever taken silently
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from typing import Protocol

from sandboxes.daemon.pools import Pool


@dataclass(frozen=True)
class Probe:
    """What one engine's real run said."""

    engine: str
    ok: bool
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "reasons": list(self.reasons)}


class NotOffered(Exception):
    """This engine, on this machine, has no sandbox for that language or template."""


class Engine(Protocol):
    name: str

    def probe(self) -> Probe: ...
    def promises(self) -> list[str]: ...
    def limits(self) -> dict[str, str]: ...
    def languages(self) -> list[str]: ...
    def open_pool(self, language: str, template: str, *, network: bool = False, numeric: bool = False) -> Pool: ...
    def preloads_numeric(self, language: str, template: str) -> bool: ...
    def close(self) -> None: ...


class GVisor:
    """Found or not, it is reported; its slots are not built yet, so it never passes."""

    name = "gvisor"

    def probe(self) -> Probe:
        found = os.environ.get("RUNSC_PATH") or shutil.which("runsc")
        if not found:
            return Probe(self.name, ok=False, reasons=("runsc is neither in RUNSC_PATH nor on PATH",))
        return Probe(self.name, ok=False, reasons=(f"{found} was found, but this version cannot hold slots in it",))


@dataclass
class Choice:
    engine: Engine | None
    probes: list[Probe]

    def reasons(self) -> list[str]:
        return [f"{probe.engine}: {reason}" for probe in self.probes for reason in probe.reasons]


def choose(engines: list) -> Choice:
    probes: list[Probe] = []
    for engine in engines:
        probes.append(engine.probe())
        if probes[-1].ok:
            return Choice(engine, probes)
    return Choice(None, probes)
