"""Pure. What an execution's event stream consists of, numbered so that a resume is byte-identical.

    1 state queued | 2 state starting | 3 state running | 4.. stdout, stderr, usage as they came | last: end

Each attempt counts from its own start, far above the attempt before, so that the writer of an attempt
knows its numbers without asking anybody. The journal of a chunk says how its bytes were cut: `o12 e5`
is twelve bytes of stdout, then five of stderr; `u` is a frame of usage, which is kept elsewhere or not at all.
"""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

ATTEMPT_STEP = 1_000_000
STATES_BEFORE = {"queued": 1, "starting": 2, "running": 3}
FIRST_OUTPUT = 4
STREAM_OF = {"o": "stdout", "e": "stderr"}
LETTER_OF = {"stdout": "o", "stderr": "e"}
USAGE = "u"
MOST_SAMPLES = 240
SAMPLED = ("at_ms", "cpu_ms", "memory_bytes", "disk_bytes")


# The frame's number, then SAMPLED.
Sample = tuple[int, int, int, int, int]


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


def usage_frame(number: int, sample: Iterable[int]) -> Frame:
    """What an execution used up to a moment, and held then."""
    return Frame(number, "usage", dict(zip(SAMPLED, sample, strict=True)))


def note(stream: str, length: int) -> str:
    """One entry of a chunk's journal."""
    return USAGE if stream == "usage" else f"{LETTER_OF[stream]}{length}"


class Samples:
    """Keeps a few of many: of ever longer runs every one, every second, every fourth, and always the last."""

    def __init__(self) -> None:
        self._kept: list[Sample] = []
        self._last: Sample | None = None
        self._seen, self._step = 0, 1

    def add(self, sample: Sample) -> None:
        if self._seen % self._step == 0:
            self._kept.append(sample)
        if len(self._kept) == MOST_SAMPLES:
            self._kept, self._step = self._kept[::2], self._step * 2
        self._last, self._seen = sample, self._seen + 1

    def all(self) -> list[Sample]:
        ends = [self._last] if self._last is not None and self._kept[-1] is not self._last else []
        return self._kept + ends


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
        if entry == USAGE:
            continue
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
    *,
    attempt: int,
    has_started: bool,
    has_run: bool,
    chunks: Iterable[Chunk],
    samples: Iterable[Sequence[int]] = (),
    end: dict[str, Any],
) -> Iterator[Frame]:
    """Every frame of a final execution's last attempt, as it was sent while it ran; of usage, those that were kept."""
    base = first_number(attempt)
    states = ["queued"] + ["starting"] * has_started + ["running"] * has_run
    for state in states:
        yield state_frame(attempt=attempt, state=state)
    last = base + len(states)
    usage = (usage_frame(number, sample) for number, *sample in samples)
    for frame in heapq.merge(output_frames(chunks), usage, key=lambda frame: frame.number):
        yield frame
        last = frame.number
    yield Frame(last + 1, "end", end)


def output_frames(chunks: Iterable[Chunk]) -> Iterator[Frame]:
    for chunk in chunks:
        for number, stream, offset, content in cut(chunk):
            yield output_frame(number=number, stream=stream, offset=offset, content=content)
