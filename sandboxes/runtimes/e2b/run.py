"""One run in one E2B sandbox: make it, put the guest and the request in, pass on what it says, end it.

    caller's thread   drive(): takes what the talker hears, calls back, keeps the last deadline, answers a cancel
    talker's thread   creates, uploads, starts, listens, fetches the artifacts, and always kills the sandbox at the end

Two threads, because every call of the SDK blocks, and a cancel is answered within 200 ms whatever it waits for.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import e2b

from sandboxes.daemon import artifacts, protocol
from sandboxes.runtimes import (
    Artifact,
    InvalidRequest,
    OnOutput,
    OnSample,
    OnStarted,
    Outcome,
    Request,
    RuntimeLost,
    RuntimeUnavailable,
    Started,
)
from sandboxes.runtimes.e2b import endings, frames
from sandboxes.runtimes.e2b.cloud import PATIENCE_SECONDS, Cloud, faults

HOME = "/opt/ntd"
COMMAND = f"exec python3 -B {HOME}/guest.py"
MISSING_COMMAND = 127
# The guest's own modules, and those of the daemon that hold in every sandbox: the same program under both.
DAEMON = Path(artifacts.__file__).parent
UPLOADED = {
    **{name: Path(__file__).parent / "inside" / name for name in ("guest.py", "place.py", "counting.py", "wayout.py")},
    **{name: DAEMON / "inside" / name for name in ("kernel.py", "forks.py", "program.py", "runner.js", "outward.js")},
    **{f"sandboxes/daemon/{name}": DAEMON / name for name in ("gateway.py", "asked.py", "egress.py")},
    "artifacts.py": DAEMON / "artifacts.py",
}
START_SECONDS = 60
UPLOAD_SECONDS = 60
# The guest keeps the time; this only notices a guest, or a connection, that has stopped answering.
GRACE_SECONDS = 30
# How long a cancelled run may take to say what it used.
LAST_WORDS_SECONDS = 0.12
KEPT_WORDS = 1000
log = logging.getLogger(__name__)


class Run:
    def __init__(self, *, cloud: Cloud, request: Request) -> None:
        self.request = request
        self.sandbox: e2b.Sandbox | None = None
        self._cloud = cloud
        self._handle: Any = None
        self._unwanted = threading.Event()
        self._is_over = False
        self._used: dict[str, Any] = {}
        self._heard: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._begun = self._started = self._deadline = 0.0
        self._streams = {"stdout": bytearray(), "stderr": bytearray()}

    @property
    def has_started(self) -> bool:
        return self._started > 0

    # --- the caller's thread

    def drive(self, *, on_started: OnStarted, on_output: OnOutput, on_sample: OnSample | None = None) -> Outcome:
        self._begun = time.monotonic()
        self._deadline = self._begun + PATIENCE_SECONDS + UPLOAD_SECONDS + START_SECONDS
        threading.Thread(target=self._talk, name=f"e2b-{self.request.id}").start()
        try:
            return self._listen(on_started, on_output, on_sample or (lambda _: None))
        finally:
            if not self._is_over:
                self._give_up()

    def _listen(self, on_started: OnStarted, on_output: OnOutput, on_sample: OnSample) -> Outcome:
        while True:
            what, value = self._hear()
            if what == "ready":
                on_started(self._say_started())
            elif what == "out":
                self._pass_on(value, on_output)
            elif what == "used":
                self._used = value
                on_sample(endings.sample(value))
            elif what == "end":
                return endings.outcome(value, self._streams, startup_ms=self._startup_ms())
            elif what == "failure":
                raise value
            else:
                return self._cut_short()

    def _hear(self) -> tuple[str, Any]:
        try:
            what, value = self._heard.get(timeout=max(0.0, self._deadline - time.monotonic()))
        except queue.Empty:
            if not self._unwanted.is_set():
                raise RuntimeLost("The E2B sandbox, or the way to it, has stopped answering.") from None
            return "nothing", None
        if what == "cancel":
            self._deadline = min(self._deadline, time.monotonic() + LAST_WORDS_SECONDS)
            return self._hear()
        self._is_over = what in ("end", "failure", "nothing")
        if what == "failure" and self._unwanted.is_set():
            return "nothing", None
        return what, value

    def _say_started(self) -> Started:
        assert self.sandbox
        self._started = time.monotonic()
        if not self._unwanted.is_set():
            self._deadline = self._started + self.request.timeout_seconds + GRACE_SECONDS
        return Started(sandbox=self.sandbox.sandbox_id, warm=False, startup_ms=self._startup_ms())

    def _startup_ms(self) -> float:
        return max(0.0, self._started - self._begun) * 1000

    def _pass_on(self, message: dict[str, Any], on_output: OnOutput) -> None:
        kept = self._streams[message["out"]]
        content = frames.content(message)
        if message["at"] != len(kept) or len(kept) + len(content) > self.request.limits.output_kb << 10:
            raise RuntimeLost("The E2B sandbox sent output that does not follow what it sent before.")
        kept += content
        on_output(message["out"], message["at"], content)

    def _cut_short(self) -> Outcome:
        """Cancelled before the guest could say the last: all that is known is what it said before, and the time."""
        lasted = (time.monotonic() - self._started) * 1000 if self._started else 0.0
        return endings.cut_short(self._streams, used=self._used, lasted_ms=lasted, startup_ms=self._startup_ms())

    def cancel(self) -> None:
        self._unwanted.set()
        self._heard.put(("cancel", None))
        # Who cancels waits for the end, not for E2B.
        threading.Thread(target=self._ask_to_stop, name=f"e2b-cancel-{self.request.id}").start()

    def _give_up(self) -> None:
        """Nobody waits for it any more: the sandbox goes, and with it the talker's connection."""
        self._unwanted.set()
        if self.sandbox is not None:
            threading.Thread(target=self._bury, name=f"e2b-end-{self.request.id}").start()

    def _ask_to_stop(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(RuntimeLost, RuntimeUnavailable), faults("cancelling"):
                self._handle.send_stdin("cancel\n", request_timeout=GRACE_SECONDS)

    # --- the talker's thread

    def _talk(self) -> None:
        try:
            self._heard.put(("end", self._converse()) if self._prepare() else ("nothing", None))
        except (RuntimeLost, RuntimeUnavailable, InvalidRequest) as failure:
            self._heard.put(("failure", failure))
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            log.exception("a conversation with E2B failed")
            self._heard.put(("failure", RuntimeLost(f"The conversation with E2B failed: {type(error).__name__}.")))
        finally:
            self._bury()

    def _prepare(self) -> bool:
        """Make the sandbox and start the guest in it; False as soon as nobody wants it."""
        self.sandbox = self._cloud.create(
            language=self.request.language,
            request_id=self.request.id,
            lease_seconds=lease_seconds(self.request.timeout_seconds, longest=self._cloud.plan.longest_seconds),
            network=self.request.network,
        )
        if self._unwanted.is_set():
            return False
        with faults("putting the files in"):
            files = _files(self.request, network=self._cloud.plan.network if self.request.network else "")
            self.sandbox.files.write_files(files, user="root", request_timeout=UPLOAD_SECONDS)
        if self._unwanted.is_set():
            return False
        with faults("starting the program"):
            self._handle = self.sandbox.commands.run(
                COMMAND,
                background=True,
                user="root",
                cwd="/",
                stdin=True,
                timeout=self.request.timeout_seconds + START_SECONDS + GRACE_SECONDS,
                retain_output=False,
            )
        if self._unwanted.is_set():
            self._ask_to_stop()
        return True

    def _converse(self) -> dict[str, Any]:
        """Pass on all that the guest says; returns its report, with the artifacts."""
        said = _Said(self._heard)
        with faults("running the program"):
            try:
                self._handle.wait(on_stdout=said.hear, on_stderr=said.grumble)
            except e2b.CommandExitException as exit:
                said.exit_code = exit.exit_code
        if said.refused:
            raise InvalidRequest(f"{said.refused} Ask for less, or choose a larger E2B template.")
        if said.exit_code == MISSING_COMMAND:
            name = self._cloud.plan.templates[self.request.language]
            raise RuntimeUnavailable([f"The E2B template {name} has no python3 on its PATH, which every run needs."])
        if said.failed:
            raise RuntimeUnavailable([f"The E2B sandbox cannot hold a program: {said.failed}"])
        if said.report is None:
            raise RuntimeLost(f"The guest in the E2B sandbox ended without a report. {said.grumbles}")
        return said.report | {"contents": self._contents(said.report["artifacts"])}

    def _contents(self, listed: list[tuple[str, int]]) -> list[Artifact]:
        sizes = [size for _, size in listed]
        if not sum(sizes):
            return [Artifact(path, b"") for path, _ in listed]
        assert self.sandbox
        with faults("fetching the artifacts"):
            whole = bytes(self.sandbox.files.read(f"{HOME}/out/artifacts.bin", format="bytes", user="root"))
        if len(whole) != sum(sizes) or len(whole) > artifacts.MOST_BYTES:
            raise RuntimeLost("The artifacts did not arrive whole from the E2B sandbox.")
        ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
        return [Artifact(path, whole[end - size : end]) for (path, size), end in zip(listed, ends, strict=True)]

    def _bury(self) -> None:
        if self.sandbox is None:
            return
        try:
            self._cloud.kill(self.sandbox.sandbox_id)
        except (RuntimeLost, RuntimeUnavailable) as failure:
            log.warning("the E2B sandbox %s is left to its time-out: %s", self.sandbox.sandbox_id, failure)


class _Said:
    """What the guest said beside the program's output."""

    def __init__(self, heard: queue.SimpleQueue[tuple[str, Any]]) -> None:
        self._heard = heard
        self._lines = frames.Lines()
        self.report: dict[str, Any] | None = None
        self.refused = self.failed = self.grumbles = ""
        self.exit_code = 0

    def hear(self, piece: str) -> None:
        for message in self._lines.take(piece):
            if "out" in message:
                self._heard.put(("out", message))
            elif "ready" in message:
                self._heard.put(("ready", None))
            elif "used" in message:
                self._heard.put(("used", message["used"]))
            else:
                self.report = message.get("end", self.report)
                self.refused = message.get("refused", self.refused)
                self.failed = message.get("failed", self.failed)

    def grumble(self, piece: str) -> None:
        self.grumbles = (self.grumbles + piece)[-KEPT_WORDS:]


def lease_seconds(timeout_seconds: float, *, longest: int) -> int:
    """How long E2B lets the sandbox live, should nobody kill it."""
    return min(int(timeout_seconds) + 1 + START_SECONDS + UPLOAD_SECONDS + GRACE_SECONDS, longest)


@cache
def _inside() -> tuple[tuple[str, bytes], ...]:
    return tuple((name, path.read_bytes()) for name, path in UPLOADED.items())


def _files(request: Request, *, network: str) -> list[Any]:
    """What goes into the sandbox; `network` is where the program may reach, "" for nowhere."""
    order = request.limits.as_dict() | {
        "language": request.language,
        "timeout_seconds": request.timeout_seconds,
        "network": network,
    }
    fields: dict[str, object] = {"args": list(request.args), "env": dict(request.env), "files": list(request.files)}
    code = request.code.encode("utf-8", "surrogatepass")
    contents = {
        **dict(_inside()),
        "order.json": json.dumps(order).encode(),
        "request.bin": protocol.pack_body(fields, [code, *request.files.values()]),
        "stdin.bin": request.stdin,
    }
    return [{"path": f"{HOME}/{name}", "data": content} for name, content in contents.items()]
