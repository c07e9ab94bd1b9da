"""Secrets of MCP servers: headers for one at an address, variables for one by a command. Sealed, never shown again.

A secret was given to one server: with another address, or a command instead of one, it is forgotten unless it is given
in the same change. Whoever writes the program of a command can make it print its variables; that cannot be helped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from federation.models import McpServer
from sandboxes import programs, sealing

HEADERS, ENV = "headers", "env"
KINDS = (HEADERS, ENV)
MOST = 30
MOST_CHARACTERS = 4096
# A shorter one is part of ordinary words.
SHORTEST_MASKED = 6
HIDDEN = "[secret]"
NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# What the conversation itself says.
TAKEN = frozenset(
    {
        "accept", "accept-encoding", "connection", "content-length", "content-type", "host", "last-event-id",
        "mcp-protocol-version", "mcp-session-id", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


def kind_of(server: McpServer) -> str:
    return HEADERS if server.url else ENV


def place_of(server: McpServer) -> tuple[str, ...]:
    """To whom its secrets were given: an origin, or the sandbox of its command."""
    if not server.url:
        return ("command",)
    parts = urlsplit(server.url)
    return (parts.scheme, parts.hostname or "", str(parts.port))


def changed(kept: Mapping[str, str], given: Mapping[str, str | None], *, kind: str) -> dict[str, str]:
    """The sealed secrets after a change: None takes one away, what is left out stays."""
    found = dict(kept)
    for name, value in given.items():
        written = name.lower() if kind == HEADERS else name
        if value is None:
            found.pop(written, None)
        else:
            found[written] = sealing.seal(value)
    return found


def fault(given: Mapping[str, str | None], kept: Mapping[str, str], *, kind: str) -> str:
    """Why these cannot be kept, without saying a value; empty when they can."""
    names = {name.lower() for name in given} if kind == HEADERS else set(given)
    if len(names) != len(given):
        return "One header is given twice."
    if len({*names, *kept}) > MOST:
        return f"At most {MOST}."
    found = (_fault_of(name, value, kind) for name, value in given.items())
    return next((said for said in found if said), "")


def _fault_of(name: str, value: str | None, kind: str) -> str:
    if kind == HEADERS:
        if not NAME.fullmatch(name) or name.lower() in TAKEN:
            return f"{name[:100]!r} cannot be a header of yours."
    elif not programs.ENV_NAME.fullmatch(name) or len(name) > 100:
        return f"{name[:100]!r} is no name of a variable: letters, digits and _, not starting with a digit."
    if value is None:
        return ""
    if not 1 <= len(value) <= MOST_CHARACTERS:
        return f"{name} needs from 1 to {MOST_CHARACTERS:,} characters."
    plain = value.isascii() and value.isprintable() and value == value.strip()
    if kind == HEADERS and not plain:
        return f"{name} may have visible ASCII characters only, and none at its ends that cannot be seen."
    return f"{name} has the character U+0000." if "\x00" in value else ""


def opened(server: McpServer) -> dict[str, str]:
    """In plain words, for the conversation. Raises sealing.Unreadable."""
    return {name: sealing.unseal(text) for name, text in server.secrets.items()}


def masked(server: McpServer, text: str) -> str:
    """What a server said, which may have been one of its secrets."""
    try:
        values = opened(server).values()
    except sealing.Unreadable:
        return text
    for value in sorted(values, key=len, reverse=True):
        # "Bearer abc" is also what says "abc".
        for part in (value, value.rpartition(" ")[2]):
            if len(part) >= SHORTEST_MASKED:
                text = text.replace(part, HIDDEN)
    return text
