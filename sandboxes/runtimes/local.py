"""This machine's sandbox daemon as a runtime: the daemon's only client.

One connection for each run, and the connection is the lease: if this process dies, so does the slot.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import asdict

from sandboxes.daemon import protocol
from sandboxes.daemon.protocol import BrokenFrame, Kind
from sandboxes.runtimes import (
    LOCAL,
    Artifact,
    BuildRequest,
    Built,
    InvalidRequest,
    Needs,
    OnOutput,
    OnSample,
    OnStarted,
    Opening,
    Outcome,
    Request,
    RuntimeLost,
    RuntimeUnavailable,
    Sample,
    SandboxBusy,
    SandboxGone,
    Size,
    Started,
)

CREDENTIALS = struct.Struct("3i")
CONNECT_SECONDS = 5
ANSWER_SECONDS = 5
# A place for a customer's sandbox is made, or cleared away, before the answer.
MAKING_SECONDS = 30
# The daemon keeps the deadline; this only notices a daemon that has itself stopped answering.
GRACE_SECONDS = 60


class LocalRuntime:
    name = LOCAL

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path

    def objections(self, needs: Needs) -> dict[str, str]:
        """None: its daemon keeps every limit in range, and says itself when it cannot."""
        return {}

    def run(
        self, request: Request, *, on_started: OnStarted, on_output: OnOutput, on_sample: OnSample | None = None
    ) -> Outcome:
        with self._connected() as connection:
            return _run(connection, request, on_started=on_started, on_output=on_output, on_sample=on_sample)

    def cancel(self, request_id: str) -> bool:
        return bool(self._ask(Kind.CANCEL, {"id": request_id})["cancelled"])

    def resize(self, language: str, size: Size, *, template: str = "") -> None:
        self._ask(Kind.RESIZE, {"language": language, "template": template, **asdict(size)})

    def build(self, request: BuildRequest, *, on_output: OnOutput) -> Built:
        with self._connected() as connection:
            return _build(connection, request, on_output=on_output)

    def discard(self, address: str) -> bool:
        return bool(self._ask(Kind.DISCARD, {"template": address})["discarded"])

    def open(self, opening: Opening) -> None:
        fields = {**vars(opening), "env": dict(opening.env), "limits": opening.limits.as_dict()}
        self._ask(Kind.OPEN, fields, within_seconds=MAKING_SECONDS)

    def extend(self, sandbox: str, seconds: float) -> None:
        self._ask(Kind.EXTEND, {"id": sandbox, "expires_in_seconds": seconds})

    def close(self, sandbox: str) -> bool:
        return bool(self._ask(Kind.CLOSE, {"id": sandbox}, within_seconds=MAKING_SECONDS)["closed"])

    def describe(self) -> dict:
        return self._ask(Kind.DESCRIBE, {})

    def _ask(self, kind: Kind, fields: dict[str, object], *, within_seconds: float = ANSWER_SECONDS) -> dict:
        """The answer; with `process`, the daemon's process id as the kernel tells it to us."""
        with self._connected() as connection:
            connection.settimeout(within_seconds)
            with _daemon_faults():
                protocol.send(connection, kind, fields)
                answered, said, _ = protocol.receive(connection)
            if answered is not Kind.ANSWER:
                _raise(answered, said)
            return {**said, "process": _peer(connection)}

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(CONNECT_SECONDS)
            try:
                connection.connect(self.socket_path)
            except OSError as problem:
                raise RuntimeLost(f"The sandbox daemon cannot be reached at {self.socket_path}.") from problem
            yield connection


def _peer(connection: socket.socket) -> int | None:
    """None when the other side is in a process namespace that we do not see."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return CREDENTIALS.unpack(credentials)[0] or None


@contextlib.contextmanager
def _daemon_faults() -> Iterator[None]:
    try:
        yield
    except (OSError, BrokenFrame) as problem:
        raise RuntimeLost(f"The sandbox daemon went away: {problem}") from problem


def _run(
    connection: socket.socket,
    request: Request,
    *,
    on_started: OnStarted,
    on_output: OnOutput,
    on_sample: OnSample | None,
) -> Outcome:
    streams = {"stdout": bytearray(), "stderr": bytearray()}
    with _daemon_faults():
        connection.sendall(_request_frame(request, sampled=on_sample is not None))
    # Waiting for room in the daemon is no fault, however long it takes.
    connection.settimeout(None)
    while True:
        # Only the daemon's faults are caught here: an error of the caller's callbacks is the caller's.
        with _daemon_faults():
            kind, fields, blobs = protocol.receive(connection)
        if kind is Kind.STARTED:
            connection.settimeout(request.timeout_seconds + GRACE_SECONDS)
            on_started(Started(**fields))
        elif kind is Kind.OUTPUT:
            streams[fields["stream"]] += blobs[0]
            on_output(fields["stream"], fields["offset"], blobs[0])
        elif kind is Kind.SAMPLE and on_sample is not None:
            on_sample(Sample(**fields))
        elif kind is Kind.ENDED:
            return _outcome(fields, blobs, streams)
        else:
            _raise(kind, fields)


def _build(connection: socket.socket, request: BuildRequest, *, on_output: OnOutput) -> Built:
    fields = {
        "id": request.id,
        "template": request.address,
        "language": request.language,
        "packages": list(request.packages),
        "lock": request.lock,
    }
    with _daemon_faults():
        protocol.send(connection, Kind.BUILD, fields)
    # It may wait for the builds of others; the daemon keeps the time of its own.
    connection.settimeout(None)
    while True:
        with _daemon_faults():
            kind, said, blobs = protocol.receive(connection)
        if kind is Kind.OUTPUT:
            on_output(said["stream"], said["offset"], blobs[0])
        elif kind is Kind.ENDED:
            return Built(**said)
        else:
            _raise(kind, said)


def _request_frame(request: Request, *, sampled: bool = False) -> bytes:
    fields = {
        "id": request.id,
        "language": request.language,
        "template": request.template,
        "args": list(request.args),
        "env": dict(request.env),
        "files": list(request.files),
        "timeout_seconds": request.timeout_seconds,
        "limits": request.limits.as_dict(),
        "network": request.network,
        "sandbox": request.sandbox,
        "sampled": sampled,
    }
    code = request.code.encode("utf-8", "surrogatepass")
    return protocol.pack(Kind.RUN, fields, [code, request.stdin, *request.files.values()])


def _outcome(fields: dict, blobs: list[bytes], streams: dict[str, bytearray]) -> Outcome:
    paths = fields.pop("artifacts")
    return Outcome(
        **{**fields, "artifacts_truncated": tuple(fields["artifacts_truncated"])},
        stdout=bytes(streams["stdout"]),
        stderr=bytes(streams["stderr"]),
        artifacts=tuple(Artifact(path, content) for path, content in zip(paths, blobs, strict=True)),
    )


def _raise(kind: Kind, fields: dict) -> None:
    if kind is Kind.UNAVAILABLE:
        raise RuntimeUnavailable(fields["reasons"])
    by_kind = {Kind.REFUSED: InvalidRequest, Kind.BUSY: SandboxBusy, Kind.GONE: SandboxGone}
    if kind in by_kind:
        raise by_kind[kind](fields["reason"])
    raise RuntimeLost(fields.get("reason", "The sandbox daemon gave no answer."))
