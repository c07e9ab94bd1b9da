"""Pure. What the guest says on its standard output: one JSON a line, in pieces as the connection delivers them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

LONGEST_LINE = 1 << 20


class Garbled(Exception):
    """Raised when what arrives is not what a guest says."""


class Lines:
    """Puts lines together from pieces of text; what a template's profile prints before the first one is skipped."""

    def __init__(self) -> None:
        self._rest = ""
        self._begun = False

    def take(self, piece: str) -> Iterator[dict[str, Any]]:
        *lines, self._rest = (self._rest + piece).split("\n")
        if len(self._rest) > LONGEST_LINE:
            raise Garbled("a line without an end")
        for line in lines:
            self._begun = self._begun or line.startswith("{")
            if self._begun:
                yield _message(line)


def _message(line: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        raise Garbled(f"a line that is no JSON: {line[:80]!r}") from None
    if not isinstance(message, dict):
        raise Garbled(f"a line that is no object: {line[:80]!r}")
    return message


def content(message: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(message["data"], validate=True)
    except (KeyError, TypeError, ValueError):
        raise Garbled("output that is not base64") from None
