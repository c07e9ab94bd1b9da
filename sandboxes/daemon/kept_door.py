"""What clients ask of kept sandboxes themselves, beside running in them: to open one, to give it time, to close it."""

from __future__ import annotations

from collections.abc import Callable

from sandboxes.daemon.engines import CannotStart, NotOffered
from sandboxes.daemon.kept import Full, Gone, KeptSandboxes
from sandboxes.daemon.orders import NO_NETWORK, BadOrder, read_extension, read_opening
from sandboxes.daemon.pools import CannotKeep, Pool
from sandboxes.daemon.protocol import Kind

Answer = tuple[Kind, dict[str, object]]


class KeptDoor:
    def __init__(self, kept: KeptSandboxes, *, pool: Callable[..., Pool], has_network: bool) -> None:
        self._kept = kept
        self._pool = pool
        self._has_network = has_network
        self._acts = {Kind.OPEN: self._open, Kind.EXTEND: self._extend, Kind.CLOSE: self._close}

    def takes(self, kind: Kind) -> bool:
        return kind in self._acts

    def answer(self, kind: Kind, fields: dict) -> Answer:
        try:
            return Kind.ANSWER, self._acts[kind](fields)
        except BadOrder as problem:
            return Kind.REFUSED, {"reason": str(problem)}
        except (Full, CannotKeep, NotOffered) as problem:
            return Kind.UNAVAILABLE, {"reasons": [str(problem)]}
        except Gone as problem:
            return Kind.GONE, {"reason": str(problem)}
        except CannotStart as problem:
            return Kind.LOST, {"reason": str(problem)}

    def _open(self, fields: dict) -> dict[str, object]:
        opening = read_opening(fields)
        if opening.network and not self._has_network:
            raise BadOrder(NO_NETWORK)
        pool = self._pool(opening.language, opening.template, network=opening.network)
        return {"expires_in_seconds": self._kept.open(opening, pool)}

    def _extend(self, fields: dict) -> dict[str, object]:
        return {"expires_in_seconds": self._kept.extend(*read_extension(fields))}

    def _close(self, fields: dict) -> dict[str, object]:
        return {"closed": self._kept.close(str(fields.get("id")))}
