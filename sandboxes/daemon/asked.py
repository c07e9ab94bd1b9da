"""Pure. What a program asks of its way out: the first bytes of an HTTP or SOCKS5 conversation, read strictly.

A request is forwarded from what was understood of it, never as it came; what could be read in two ways is refused.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

SOCKS5 = 5
HEAD_BYTES = 32 << 10
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.[01]")
AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/?#@]+))(?::([0-9]{1,5}))?")
ABSOLUTE = re.compile(rb"http://([^/?#]+)(/[^#]*|\?[^#]*)?(?:#.*)?", re.IGNORECASE)
VISIBLE = re.compile(rb"[\x21-\x7e]+")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
# Of this hop only: what they say is not for the server behind.
HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer", b"upgrade"}
NOT_UNDERSTOOD = "This is a proxy: send CONNECT host:port, or a request with a whole http:// address."


class BadAsk(ValueError):
    """What was asked cannot be understood, or in more than one way; the text is for who asked."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        self.status = status
        super().__init__(sentence)


@dataclass(frozen=True)
class Ask:
    """A place to connect to. For a tunnel nothing more; else the head to forward and how much body follows."""

    host: str
    port: int
    is_tunnel: bool = True
    head: bytes = b""
    body_bytes: int = 0


def read_http(head: bytes) -> Ask:
    """The head of a request to a proxy, with the empty line that ends it."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    found = REQUEST_LINE.fullmatch(first)
    if found is None:
        raise BadAsk(NOT_UNDERSTOOD)
    headers = [_header(line) for line in lines]
    method, target = found[1], found[2]
    if method == b"CONNECT":
        host, port = _authority(target)
        if port is None:
            raise BadAsk("CONNECT needs a port: host:port.")
        return Ask(host, port)
    return _forwarded(method, target, headers)


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    # A folded line, a space before the colon, or a bare CR or LF could mean something else to the next reader.
    if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
        raise BadAsk("A header of the request is not well formed.")
    return name, value.strip(b" \t")


def _authority(text: bytes) -> tuple[str, int | None]:
    found = AUTHORITY.fullmatch(text)
    if found is None:
        raise BadAsk("The host and port to connect to are not well formed.")
    port = int(found[3]) if found[3] else None
    if port is not None and not 1 <= port <= 65535:
        raise BadAsk("There is no such port.")
    return (found[1] or found[2]).decode("ascii", "replace"), port


def _forwarded(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> Ask:
    found = ABSOLUTE.fullmatch(target)
    if found is None:
        raise BadAsk(NOT_UNDERSTOOD)
    host, port = _authority(found[1])
    path = found[2] or b"/"
    path = path if path.startswith(b"/") else b"/" + path
    kept = [(name, value) for name, value in headers if name.lower() not in _dropped(headers)]
    lines = [b"%s %s HTTP/1.1" % (method, path), b"Host: " + found[1]]
    lines += [b"%s: %s" % pair for pair in kept]
    head = b"\r\n".join([*lines, b"Connection: close", b"", b""])
    return Ask(host, port or 80, is_tunnel=False, head=head, body_bytes=_body_bytes(headers))


def _dropped(headers: list[tuple[bytes, bytes]]) -> set[bytes]:
    named = {
        token.strip().lower() for name, value in headers if name.lower() == b"connection" for token in value.split(b",")
    }
    return HOP_BY_HOP | {b"host"} | (named - {b"content-length", b"transfer-encoding"})


def _body_bytes(headers: list[tuple[bytes, bytes]]) -> int:
    lengths = {value for name, value in headers if name.lower() == b"content-length"}
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        raise BadAsk("Send the body with a Content-Length, or use https.", 411)
    if not lengths:
        return 0
    length = lengths.pop()
    if lengths or not re.fullmatch(rb"[0-9]{1,15}", length):
        raise BadAsk("The Content-Length is not one number.")
    return int(length)


def read_socks(kind: int, address: bytes, port: bytes) -> Ask:
    """The place in a SOCKS5 request: kind 1 is an IPv4 address, 3 a name, 4 an IPv6 address."""
    if kind == 1:
        host = str(IPv4Address(address))
    elif kind == 4:
        host = str(IPv6Address(address))
    elif VISIBLE.fullmatch(address):
        host = address.decode()
    else:
        raise BadAsk("The name of the host is not well formed.")
    return Ask(host, struct.unpack("!H", port)[0])
