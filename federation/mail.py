"""Pure. What is asked of a managed agent that sits down to its mail, and what became of each message.

inside/mail.py reads `asked` and writes what `judge` reads. A message is done, failed, or was not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# A message that failed so often is dead.
MOST_DELIVERIES = 5
# What one sitting takes.
MOST_MESSAGES = 100
MOST_BYTES = 4 * 1024 * 1024
# Another message is begun for so much of the time that the program has.
BEGIN_SHARE = 0.5
ERROR_CHARACTERS = 2000


class Fate(StrEnum):
    DONE = "done"
    FAILED = "failed"
    UNTOUCHED = "untouched"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message; `reply` is None where it gets none."""

    fate: Fate
    reply: Any = None
    error: str = ""


def asked(messages: Sequence[Mapping[str, Any]], *, timeout_seconds: float) -> bytes:
    """What the program in the sandbox is told."""
    return json.dumps({"messages": list(messages), "seconds": timeout_seconds * BEGIN_SHARE}).encode()


def fitting(sizes: Iterable[int]) -> int:
    """How many of these messages, by their sizes (bytes), one sitting takes: the first at least."""
    number = total = 0
    for number, size in enumerate(sizes, start=1):
        total += size
        if number > 1 and total > MOST_BYTES:
            return number - 1
    return number


def judge(ids: Sequence[str], told: bytes | None, *, error: str, ran: bool, is_lost: bool) -> dict[str, Outcome]:
    """What became of each message, by its id.

    `told` is what the program left, which may be forged or cut off. `error` is why the program ended, empty when it
    ended well; `ran` whether it began at all; `is_lost` whether its sandbox is to blame. What a lost sandbox looked at
    is not known, so all it had failed. So did everything where the program fell over before the first message.
    """
    if not ran:
        return dict.fromkeys(ids, Outcome(Fate.UNTOUCHED))
    begun, ended = _read(told)
    failed = Outcome(Fate.FAILED, error=(error or "It ended without a word of this message.")[:ERROR_CHARACTERS])
    unseen = failed if is_lost or not begun & set(ids) else Outcome(Fate.UNTOUCHED)
    return {each: ended.get(each) or (failed if each in begun else unseen) for each in ids}


def _read(told: bytes | None) -> tuple[set[str], dict[str, Outcome]]:
    begun: set[str] = set()
    ended: dict[str, Outcome] = {}
    for line in (told or b"").splitlines():
        with suppress(ValueError, RecursionError):
            said = json.loads(line)
            if not isinstance(said, dict):
                continue
            if isinstance(said.get("begin"), str):
                begun.add(said["begin"])
            elif isinstance(said.get("id"), str):
                ended[said["id"]] = _outcome(said)
    return begun | set(ended), ended


def _outcome(said: Mapping[str, Any]) -> Outcome:
    if "error" in said:
        return Outcome(Fate.FAILED, error=str(said["error"])[:ERROR_CHARACTERS] or "It failed.")
    return Outcome(Fate.DONE, reply=said.get("reply"))
