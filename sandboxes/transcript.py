"""What an execution says while it runs: frames in a Redis stream, then chunks in the database.

    worker --Writer--> Redis stream of the execution --read by--> the event stream, `output`
                 \\--> OutputChunk rows, each time KEPT_BYTES have come, and at the end
                 \\--> samples of what it uses, thinned, with the execution at its end

Redis only makes it live: when it is away nothing is lost, since the end writes whatever was not stored.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.db import connection

from sandboxes import frames
from sandboxes.models import Execution, OutputChunk
from sandboxes.runtimes import Sample

KEPT_BYTES = 4 * 1024 * 1024
# Long enough for the longest execution after its last frame, short enough not to pile up.
LIVE_SECONDS = 2 * 3600
ENDED_SECONDS = 300
BLOCK_MS = 2000
log = logging.getLogger(__name__)


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=10, socket_connect_timeout=2)


def stream_key(execution_id: UUID | str) -> str:
    return f"ntd:execution:{execution_id}:frames"


def end_key(execution_id: UUID | str) -> str:
    return f"ntd:execution:{execution_id}:end"


def entry_id(number: int) -> str:
    return f"0-{number}"


def tell_queued(execution: Execution) -> None:
    """That it waits again; of the first time everybody knows, since there is an execution."""
    _send(execution.pk, frames.state_frame(attempt=execution.frames_attempt, state="queued"))


def tell_end(execution_id: UUID | str) -> None:
    """This will wake everybody who waits for the end; what it is they read from the row."""
    try:
        with _redis().pipeline(transaction=False) as pipe:
            pipe.xadd(stream_key(execution_id), {"end": "1"}, id=entry_id(2**62))
            pipe.expire(stream_key(execution_id), ENDED_SECONDS)
            pipe.xadd(end_key(execution_id), {"end": "1"}, maxlen=1)
            pipe.expire(end_key(execution_id), ENDED_SECONDS)
            pipe.execute(raise_on_error=False)
    except redis.RedisError as error:
        log.warning("end of execution %s was not told: %s", execution_id, error)


def _send(execution_id: UUID | str, frame: frames.Frame) -> None:
    try:
        with _redis().pipeline(transaction=False) as pipe:
            pipe.xadd(stream_key(execution_id), {"state": frame.value["state"]}, id=entry_id(frame.number))
            pipe.expire(stream_key(execution_id), LIVE_SECONDS)
            pipe.execute(raise_on_error=False)
    except redis.RedisError as error:
        log.warning("state of execution %s was not told: %s", execution_id, error)


def wait_for_end(execution_ids: Iterable[UUID], *, seconds: float) -> None:
    """Block until all are final or the time is over; a connection to the database is not held meanwhile."""
    waiting = {end_key(pk): "0" for pk in execution_ids}
    deadline = time.monotonic() + seconds
    if not connection.in_atomic_block:
        connection.close()
    while waiting and (left := deadline - time.monotonic()) > 0:
        try:
            ended = _redis().xread(waiting, block=max(1, min(BLOCK_MS, int(left * 1000))))
        except redis.RedisError as error:
            log.warning("waiting for executions without Redis: %s", error)
            time.sleep(min(left, 0.5))
            return
        for key, _ in ended:
            waiting.pop(key.decode())


class Writer:
    """Takes the output of one attempt: tells it live, and keeps it for the database."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self._base = frames.first_number(execution.attempt)
        self._next = self._base + frames.FIRST_OUTPUT
        self._ends = {"stdout": 0, "stderr": 0}
        self._parts: list[tuple[str, bytes]] = []
        self._kept = 0
        self._start = dict(self._ends)
        self._samples = frames.Samples()

    def state(self, state: str) -> None:
        """The first one makes the stream, and says when it goes should nobody tell the end."""
        frame = frames.state_frame(attempt=self.execution.attempt, state=state)
        if state == "starting":
            _send(self.execution.pk, frame)
        else:
            self._tell(frame.number, frame.value)

    def output(self, stream: str, offset: int, content: bytes) -> None:
        """One piece as the runtime hands it over. A piece that does not follow the last is left to `finish`."""
        if offset != self._ends[stream] or not content:
            return
        number = self._keep(stream, content)
        self._ends[stream] += len(content)
        self._tell(number, {"stream": stream, "offset": offset, "content": content})
        if self._kept >= KEPT_BYTES:
            self._store()

    def finish(self, stdout: bytes, stderr: bytes) -> list[OutputChunk]:
        """The chunks that remain to be stored, with whatever the runtime had not handed over as it came."""
        for stream, whole in (("stdout", stdout), ("stderr", stderr)):
            missing = whole[self._ends[stream] :]
            if missing:
                self._keep(stream, missing)
                self._ends[stream] += len(missing)
        return [self._chunk()] if any(content for _, content in self._parts) else []

    def sample(self, sample: Sample) -> None:
        """What the program uses now: told like its output, and kept as far as a chart needs it."""
        values = (sample.at_ms, sample.cpu_ms, sample.memory_bytes, sample.disk_bytes)
        number = self._keep("usage", b"")
        self._samples.add((number, *values))
        self._tell(number, {"usage": json.dumps(values)})

    def samples(self) -> list[frames.Sample]:
        return self._samples.all()

    def _keep(self, stream: str, content: bytes) -> int:
        number = self._next
        self._next += 1
        self._parts.append((stream, content))
        self._kept += len(content)
        return number

    def _tell(self, number: int, entry: dict[Any, Any]) -> None:
        try:
            _redis().xadd(stream_key(self.execution.pk), entry, id=entry_id(number))
        except redis.RedisError as error:
            log.warning("output of execution %s was not told: %s", self.execution.pk, error)

    def _store(self) -> None:
        """Move what came so far into the database, so that neither Redis nor this process grows with it."""
        chunk = self._chunk()
        chunk.save(force_insert=True)
        self._parts, self._kept, self._start = [], 0, dict(self._ends)
        try:
            _redis().xtrim(stream_key(self.execution.pk), minid=entry_id(self._next))
        except redis.RedisError as error:
            log.warning("stream of execution %s was not trimmed: %s", self.execution.pk, error)

    def _chunk(self) -> OutputChunk:
        return OutputChunk(
            execution=self.execution,
            number=self._next - len(self._parts),
            stdout_offset=self._start["stdout"],
            stderr_offset=self._start["stderr"],
            stdout_end=self._ends["stdout"],
            stderr_end=self._ends["stderr"],
            journal=" ".join(frames.note(stream, len(content)) for stream, content in self._parts),
            content=b"".join(content for _, content in self._parts),
        )


def replay(execution: Execution, *, after: int, end: dict[str, Any]) -> Iterator[frames.Frame]:
    """The frames of a settled execution past the one numbered `after`; nothing is read before it is asked for."""
    found = frames.replay(
        attempt=execution.frames_attempt,
        has_started=execution.claimed_at is not None,
        has_run=execution.started_at is not None,
        chunks=execution.chunks(),
        samples=execution.kept_samples(),
        end=end,
    )
    yield from (frame for frame in found if frame.number > after)


def stored(execution: Execution, *, after: int) -> Iterator[frames.Frame]:
    """The output frames of a live execution that are in the database already."""
    return (frame for frame in frames.output_frames(execution.chunks()) if frame.number > after)


def as_frame(entry: bytes | str, fields: dict[bytes, bytes]) -> frames.Frame | None:
    """One entry of the Redis stream as a frame; None for the mark of the end."""
    number = int((entry.decode() if isinstance(entry, bytes) else entry).split("-")[1])
    if b"end" in fields:
        return None
    if b"state" in fields:
        return frames.Frame(number, "state", {"state": fields[b"state"].decode()})
    if b"usage" in fields:
        return frames.usage_frame(number, json.loads(fields[b"usage"]))
    return frames.output_frame(
        number=number,
        stream=fields[b"stream"].decode(),
        offset=int(fields[b"offset"]),
        content=fields[b"content"],
    )


def read(execution: Execution, *, stream: str, offset: int) -> tuple[bytes, int]:
    """(bytes of a stream from `offset` so far, how many bytes the stream has so far)."""
    content, end = _read_stored(execution, stream=stream, offset=offset)
    if not execution.is_settled:
        more, end = _read_live(execution, stream=stream, offset=offset, end=end)
        content += more
    return bytes(content), end


def _read_stored(execution: Execution, *, stream: str, offset: int) -> tuple[bytearray, int]:
    chunks = execution.output_chunks.filter(number__gt=execution.first_frame).order_by("number")
    end = chunks.values_list(f"{stream}_end", flat=True).last() or 0
    content = bytearray()
    wanted = (chunk.as_chunk() for chunk in chunks.filter(**{f"{stream}_end__gt": offset}))
    for at, piece in frames.of_stream(wanted, stream):
        content += piece[max(0, offset - at) :]
    return content, end


def _read_live(execution: Execution, *, stream: str, offset: int, end: int) -> tuple[bytearray, int]:
    content = bytearray()
    start = entry_id(execution.first_frame + 1)
    try:
        entries = _redis().xrange(stream_key(execution.pk), min=start)
    except redis.RedisError as error:
        log.warning("output of execution %s was not read: %s", execution.pk, error)
        return content, end
    for _, fields in entries:
        if fields.get(b"stream") != stream.encode() or int(fields[b"offset"]) != end:
            continue
        piece = fields[b"content"]
        content += piece[max(0, offset - end) :]
        end += len(piece)
    return content, end
