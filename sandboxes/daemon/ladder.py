"""The ladder of engines: which one runs here, since when and why, and what each one's last probe said.

    begin             the strongest engine that passes, or none
    pools fail        all are probed anew: the strongest that passes, or none
    now and then      what is stronger than the one in use is probed again, ever more rarely

An engine that passes its self-test is kept even while its pools fail: making them fail must not be a way to a
weaker one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sandboxes.daemon.engines import Engine, Probe

# How long until it is probed again: twice as long each time, from the first to the last.
REFUSED_SECONDS = (1.0, 60.0)
WEAKER_SECONDS = (30.0, 1800.0)
FAILING_SECONDS = (2.0, 60.0)


@dataclass(frozen=True)
class Choice:
    engine: Engine | None
    probes: tuple[Probe, ...]
    since: datetime
    why: str

    def reasons(self) -> list[str]:
        return [f"{probe.engine}: {reason}" for probe in self.probes for reason in probe.reasons]


@dataclass
class Patience:
    """Grows while nothing changes."""

    least: float
    most: float
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        self.seconds = self.least

    def spent(self) -> float:
        now, self.seconds = self.seconds, min(self.seconds * 2, self.most)
        return now


class Ladder:
    """Engines from the strongest to the weakest. One thread looks; everybody may read `choice`."""

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        again_seconds: float = WEAKER_SECONDS[0],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engines = list(engines)
        self._again_seconds = again_seconds
        self._clock = clock
        self._probes: dict[str, Probe] = {}
        self._next_look = self._next_doubt = 0.0
        self._patience = self._doubt = Patience(0, 0)
        self.choice = Choice(None, (), datetime.now(UTC), "")
        found = self._strongest(self._engines)
        self._move(found, "It passed its self-test when the daemon started." if found else "No engine passed.")

    def look(self, failing: str = "") -> bool:
        """Probe what is due, `failing` being what the pools of the engine in use complain of; True when it moved."""
        now = self._clock()
        if failing and now >= self._next_doubt:
            return self._reconsider(failing)
        if not failing:
            self._doubt = Patience(*FAILING_SECONDS)
        if now >= self._next_look and self.choice.engine is not self._engines[0]:
            return self._climb()
        return False

    def _reconsider(self, failing: str) -> bool:
        before = self.choice.engine
        found = self._strongest(self._engines)
        self._next_doubt = self._clock() + self._doubt.spent()
        if found is before:
            self._remember()
            return False
        return self._move(found, f"The sandboxes of {before.name if before else 'no engine'} failed: {failing}")

    def _climb(self) -> bool:
        at = self._engines.index(self.choice.engine) if self.choice.engine else len(self._engines)
        found = self._strongest(self._engines[:at])
        if found is None:
            self._remember()
            self._next_look = self._clock() + self._patience.spent()
            return False
        return self._move(found, "It passes its self-test again.")

    def _strongest(self, engines: list[Engine]) -> Engine | None:
        for engine in engines:
            self._probes[engine.name] = probe = engine.probe()
            if probe.ok:
                return engine
        return None

    def _move(self, engine: Engine | None, why: str) -> bool:
        self.choice = Choice(engine, self._known(), datetime.now(UTC), why)
        self._patience = Patience(self._again_seconds, WEAKER_SECONDS[1]) if engine else Patience(*REFUSED_SECONDS)
        self._doubt = Patience(*FAILING_SECONDS)
        self._next_look = self._clock() + self._patience.spent()
        return True

    def _remember(self) -> None:
        """The same engine as before, with what the probes say now."""
        self.choice = Choice(self.choice.engine, self._known(), self.choice.since, self.choice.why)

    def _known(self) -> tuple[Probe, ...]:
        return tuple(self._probes[engine.name] for engine in self._engines if engine.name in self._probes)
