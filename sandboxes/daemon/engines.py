"""What an engine is: it says whether it isolates here, and gives pools what their slots are made of.

gvisor  >  bubblewrap  >  refuse          ladder.py chooses; nothing weaker is ever taken
"""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from sandboxes.daemon.cgroups import Counted
from sandboxes.limits import Limits

if TYPE_CHECKING:
    from sandboxes.daemon.pools import Pool


class NotOffered(Exception):
    """This engine, on this machine, has no sandbox for that language or template."""


class CannotStart(Exception):
    """A sandbox or its zygote did not come up; the text says what the machine answered."""


class SlotLost(Exception):
    """The slot died without its program having ended: nothing is known of the run."""


@dataclass(frozen=True)
class Probe:
    """What one engine's real run said."""

    engine: str
    ok: bool
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "reasons": list(self.reasons)}


class Zygote(Protocol):
    """What a pool makes its slots of; it is replaced when it is worn or dead."""

    forks: int
    living: int
    born: float

    def is_alive(self) -> bool: ...
    def stop(self) -> None: ...


class Slot(Protocol):
    """A sandbox for one run, which writes to `program` and `stdin` and hears of the end by `init` and `pidfd`.

    `listener` is its way out, -1 without one. `alarm` can be read when memory has run out and the rest must be
    ended; -1 where the kernel sees to that.
    """

    id: str
    zygote: Zygote
    born: float
    init: socket.socket
    program: socket.socket
    stdin: int
    stdout: int
    stderr: int
    scratch: int
    listener: int
    alarm: int

    @property
    def pidfd(self) -> int: ...
    def arm(self, limits: Limits) -> None: ...
    def close_stdin(self) -> None: ...
    def counted(self) -> Counted: ...
    def is_dead(self, *, wait_seconds: float = 0) -> bool: ...
    def kill(self) -> bool: ...
    def discard(self) -> None: ...


class Engine(Protocol):
    name: str

    def probe(self) -> Probe: ...
    def promises(self) -> list[str]: ...
    def limits(self) -> dict[str, str]: ...
    def languages(self) -> list[str]: ...
    def open_pool(self, language: str, template: str, *, network: bool = False, numeric: bool = False) -> Pool: ...
    def preloads_numeric(self, language: str, template: str) -> bool: ...
