"""HTTP to addresses that customers name: https to public ones, and to whatever else the operator allows by name.

A name is resolved once, every address that came out is judged, and the connection goes to a judged one, as for
sandboxes (sandboxes/daemon/egress.py).
"""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

from django.conf import settings

from sandboxes.daemon import egress

ONLY_PUBLIC = "Only public addresses are reached."
LONGEST_URL = 500


class AddressRefused(Exception):
    """Raised when a server may not be asked at this address; the text says why."""

    is_final = True


def fault(url: str) -> str:
    """Why this may be no server's address, before anything is resolved; empty when it may."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "This is no address."
    if len(url) > LONGEST_URL or parts.scheme not in ("http", "https") or not host:
        return f"Give an address such as https://tools.example/mcp, of at most {LONGEST_URL} characters."
    if parts.username or parts.password or parts.fragment:
        return "The address must have no user, password or fragment."
    if _is_allowed(host, port):
        return ""
    if parts.scheme == "http":
        return "The address must begin with https://."
    return _in_our_words(_judged_literal(host) or egress.judge_place(egress.OUTWARD, host, port))


def _in_our_words(refused: str | None) -> str:
    return (refused or "").replace("Sandboxes reach public addresses only.", ONLY_PUBLIC)


def _is_allowed(host: str, port: int) -> bool:
    allowed = egress.only(settings.MCP_ALLOW).only or frozenset()
    return (egress.canonical(host), port) in allowed


def _judged_literal(host: str) -> str | None:
    """Of an address, however it is written; names are judged when they are resolved."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return None
    return egress.judge_addresses(egress.OUTWARD, host, [(str(each[4][0]), False) for each in found])


async def address(host: str, port: int) -> str:
    """Where to connect to. Raises AddressRefused, OSError."""
    if _is_allowed(host, port):
        return host
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(each[4][0]) for each in found]
    judged = egress.judge_addresses(egress.OUTWARD, host, [(each, False) for each in addresses])
    refused = _in_our_words(egress.judge_place(egress.OUTWARD, host, port) or judged)
    if refused:
        raise AddressRefused(refused)
    return addresses[0]
