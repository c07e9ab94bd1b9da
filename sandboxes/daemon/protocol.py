"""Frames between the daemon and its client, and the request a waiting program reads.

frame    = length (4 bytes, of what follows the kind), kind (1 byte), body
body     = JSON length (4 bytes), JSON, then the blobs whose sizes the JSON names
"""

from __future__ import annotations

import enum
import json
import socket
import struct
from collections.abc import Iterable, Sequence

FRAME = struct.Struct("!IB")
LENGTH = struct.Struct("!I")
# Code, stdin, environment, arguments and files at their largest, and artifacts on the way back.
LARGEST = 96 << 20


class Kind(enum.IntEnum):
    RUN = 1
    CANCEL = 2
    DESCRIBE = 3
    RESIZE = 4
    BUILD = 8
    DISCARD = 9
    STARTED = 16
    OUTPUT = 17
    ENDED = 18
    LOST = 19
    UNAVAILABLE = 20
    REFUSED = 21
    ANSWER = 22


class BrokenFrame(Exception):
    """The other side closed in the middle, or sent what is no frame."""


def pack_body(fields: dict[str, object], blobs: Sequence[bytes] = ()) -> bytes:
    text = json.dumps({**fields, "sizes": [len(blob) for blob in blobs]}).encode()
    return b"".join((LENGTH.pack(len(text)), text, *blobs))


def pack(kind: Kind, fields: dict[str, object], blobs: Sequence[bytes] = ()) -> bytes:
    body = pack_body(fields, blobs)
    return FRAME.pack(len(body), kind) + body


def unpack_body(body: bytes) -> tuple[dict, list[bytes]]:
    try:
        start = LENGTH.size + LENGTH.unpack_from(body)[0]
        fields = json.loads(body[LENGTH.size : start])
        blobs = []
        for size in fields.pop("sizes"):
            blobs.append(body[start : start + size])
            start += size
    except (struct.error, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise BrokenFrame(f"not a frame: {problem}") from problem
    if start != len(body):
        raise BrokenFrame("the sizes in the frame do not add up")
    return fields, blobs


def receive(connection: socket.socket, *, largest: int = LARGEST) -> tuple[Kind, dict, list[bytes]]:
    length, number = FRAME.unpack(_receive_exactly(connection, FRAME.size))
    if length > largest:
        raise BrokenFrame(f"a frame of {length} bytes is too large")
    fields, blobs = unpack_body(_receive_exactly(connection, length))
    try:
        return Kind(number), fields, blobs
    except ValueError as problem:
        raise BrokenFrame(str(problem)) from problem


def send(connection: socket.socket, kind: Kind, fields: dict[str, object], blobs: Iterable[bytes] = ()) -> None:
    connection.sendall(pack(kind, fields, tuple(blobs)))


def _receive_exactly(connection: socket.socket, wanted: int) -> bytes:
    parts = bytearray()
    while len(parts) < wanted:
        part = connection.recv(min(wanted - len(parts), 1 << 20))
        if not part:
            raise BrokenFrame("the connection closed")
        parts += part
    return bytes(parts)
