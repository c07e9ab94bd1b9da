"""Pure. What an execution's event stream consists of, numbered so that a resume is byte-identical.

    1 state queued | 2 state starting | 3 state running | 4.. stdout, stderr as they came | last: end

Each attempt counts from its own start, far above the attempt before, so that the writer of an attempt
knows its numbers without asking anybody. The journal of a chunk says how its bytes were cut: `o12 e5`
is twelve bytes of stdout, then five of stderr.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

ATTEMPT_STEP = 1_000_000
STATES_BEFORE = {"queued": 1, "starting": 2, "running": 3}
FIRST_OUTPUT = 4
STREAM_OF = {"o": "stdout", "e": "stderr"}
LETTER_OF = {"stdout": "o", "stderr": "e"}


@dataclass(frozen=True, slots=True)
class Frame:
    number: int
    event: str
    value: Any

    def encode(self) -> bytes:
        """The frame as Server-Sent Events write it."""
        text = json.dumps(self.value, separators=(",", ":"), ensure_ascii=False)
        return f"id: {self.number}\nevent: {self.event}\ndata: {text}\n\n".encode()


def first_number(attempt: int) -> int:
    """The number before an attempt's first frame."""
    return (attempt - 1) * ATTEMPT_STEP


def state_frame(*, attempt: int, state: str) -> Frame:
    return Frame(first_number(attempt) + STATES_BEFORE[state], "state", {"state": state})


def output_frame(*, number: int, stream: str, offset: int, content: bytes) -> Frame:
    """Text when the bytes are UTF-8 by themselves, else base64."""
    value: dict[str, Any] = {"stream": stream, "offset": offset}
    try:
        value["text"] = content.decode()
    except UnicodeDecodeError:
        value["base64"] = base64.b64encode(content).decode()
    return Frame(number, stream, value)


def note(stream: str, length: int) -> str:
    """One entry of a chunk's journal."""
    return f"{LETTER_OF[stream]}{length}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of output as stored: its bytes in the order they came, and where it begins."""

    number: int
    stdout_offset: int
    stderr_offset: int
    journal: str
    content: bytes


def cut(chunk: Chunk) -> Iterator[tuple[int, str, int, bytes]]:
    """(number, stream, offset, bytes) of every frame of a chunk."""
    offsets = {"stdout": chunk.stdout_offset, "stderr": chunk.stderr_offset}
    at = 0
    for step, entry in enumerate(chunk.journal.split()):
        stream, length = STREAM_OF[entry[0]], int(entry[1:])
        yield chunk.number + step, stream, offsets[stream], chunk.content[at : at + length]
        offsets[stream] += length
        at += length


def of_stream(chunks: Iterable[Chunk], stream: str) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of one stream."""
    for chunk in chunks:
        for _, name, offset, content in cut(chunk):
            if name == stream:
                yield offset, content


def replay(
    *, attempt: int, has_started: bool, has_run: bool, chunks: Iterable[Chunk], end: dict[str, Any]
) -> Iterator[Frame]:
    """Every frame of a final execution's last attempt, as it was sent while it ran."""
    base = first_number(attempt)
    states = ["queued"] + ["starting"] * has_started + ["running"] * has_run
    for state in states:
        yield state_frame(attempt=attempt, state=state)
    last = base + len(states)
    for chunk in chunks:
        for number, stream, offset, content in cut(chunk):
            yield output_frame(number=number, stream=stream, offset=offset, content=content)
            last = number
    yield Frame(last + 1, "end", end)
