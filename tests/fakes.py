"""Fakes that keep the same promises as the real thing; a contract test runs against both."""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from sandboxes.daemon import artifacts, breaches
from sandboxes.daemon.orders import ENV_NAME
from sandboxes.runtimes import (
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
from scaling.policy import Load
from scaling.targets import UnknownTarget

# Puts /workspace semantics on a plain folder: the code is __main__, and the folder is first on sys.path.
LAUNCH = (
    "import sys; sys.path.insert(0, ''); sys.argv.pop(0); exec(compile(open(sys.argv[0]).read(), sys.argv[0], 'exec'))"
)


SAMPLE_SECONDS = 0.25


class FakeRuntime:
    """Runs Python in a plain subprocess: the same answers as the daemon's, and no isolation whatever."""

    name = "fake"

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._running: dict[str, _FakeRun] = {}
        self._losses = 0
        self._reasons: list[str] = []
        self._templates: set[str] = set()
        self._sizes = {"python": Size(ready=1, running=10, idle_timeout_seconds=0, max_age_seconds=3600)}
        self._kept: dict[str, _FakeKept] = {}
        self._ended: dict[str, str] = {}
        self._lock = threading.Lock()

    def lose(self, times: int = 1) -> None:
        """The next `times` runs fail as a runtime does, after they have started."""
        self._losses = times

    def refuse(self, *reasons: str) -> None:
        """From now on there is no engine; without reasons there is one again."""
        self._reasons = list(reasons)

    def objections(self, needs: Needs) -> dict[str, str]:
        return {}

    def run(
        self, request: Request, *, on_started: OnStarted, on_output: OnOutput, on_sample: OnSample | None = None
    ) -> Outcome:
        self.requests.append(request)
        _check(request, self._reasons)
        if request.sandbox:
            return self._run_in_kept(request, on_started=on_started, on_output=on_output, on_sample=on_sample)
        on_started(Started(sandbox=f"fake-{len(self.requests)}", warm=True, startup_ms=0.0))
        if self._losses:
            self._losses -= 1
            raise RuntimeLost("The fake lost its sandbox, as it was asked to.")
        with tempfile.TemporaryDirectory() as folder:
            return self._drive(
                _FakeRun(request=request, scratch=Path(folder), on_output=on_output, on_sample=on_sample)
            )

    def _drive(self, run: _FakeRun) -> Outcome:
        with self._lock:
            self._running[run.request.id] = run
        try:
            return run.drive()
        finally:
            with self._lock:
                del self._running[run.request.id]

    def _run_in_kept(
        self, request: Request, *, on_started: OnStarted, on_output: OnOutput, on_sample: OnSample | None
    ) -> Outcome:
        with self._lock:
            kept = self._find(request.sandbox)
            if kept.run is not None:
                raise SandboxBusy("The fake sandbox serves another request.")
            env = {**kept.opening.env, **request.env}
            own = replace(request, env=env, limits=kept.opening.limits)
            kept.run = _FakeRun(request=own, scratch=Path(kept.folder.name), on_output=on_output, on_sample=on_sample)
        on_started(Started(sandbox=request.sandbox, warm=True, startup_ms=0.0))
        try:
            outcome = self._drive(kept.run)
        finally:
            kept.run = None
            if request.sandbox not in self._kept:
                kept.folder.cleanup()
        with self._lock:
            self._find(request.sandbox)
        return outcome

    def open(self, opening: Opening) -> None:
        _check_opening(opening, self._reasons)
        with self._lock:
            if opening.id in self._kept or opening.id in self._ended:
                self._find(opening.id)
                return
            ends_at = time.monotonic() + opening.expires_in_seconds
            self._kept[opening.id] = _FakeKept(opening, ends_at, tempfile.TemporaryDirectory())

    def extend(self, sandbox: str, seconds: float) -> None:
        if not 0 < seconds <= 86_400:
            raise InvalidRequest("expires_in_seconds: the fake cannot count that")
        with self._lock:
            kept = self._find(sandbox)
            kept.ends_at = max(kept.ends_at, time.monotonic() + seconds)

    def close(self, sandbox: str) -> bool:
        return self._end(sandbox, "It was closed.")

    def _end(self, sandbox: str, reason: str) -> bool:
        kept = self._kept.pop(sandbox, None)
        if kept is None:
            return False
        self._ended[sandbox] = reason
        if kept.run is not None:
            # Whoever runs in it still looks at its files, and clears them away.
            kept.run.stop("closed")
        else:
            kept.folder.cleanup()
        return True

    def _find(self, sandbox: str) -> _FakeKept:
        self._end_what_is_due()
        if sandbox not in self._kept:
            raise SandboxGone(self._ended.get(sandbox, "The fake has no such sandbox."))
        return self._kept[sandbox]

    def _end_what_is_due(self) -> None:
        for name in [name for name, kept in self._kept.items() if kept.ends_at <= time.monotonic()]:
            self._end(name, "Its time-to-live is over.")

    def cancel(self, request_id: str) -> bool:
        with self._lock:
            run = self._running.get(request_id)
        if run is None:
            return False
        run.stop("cancelled")
        return True

    def resize(self, language: str, size: Size, *, template: str = "") -> None:
        if self._reasons:
            raise RuntimeUnavailable(self._reasons)
        if language not in ("python", "node"):
            raise InvalidRequest(f"language: {language!r} is unknown")
        if min(size.running, size.max_age_seconds) < 1 or min(size.ready, size.idle_timeout_seconds) < 0:
            raise InvalidRequest("the size is not one")
        self._sizes[language] = size

    def build(self, request: BuildRequest, *, on_output: OnOutput) -> Built:
        """Installs nothing: what it is asked for is there, but for packages named `nosuch`."""
        if self._reasons:
            raise RuntimeUnavailable(self._reasons)
        if not request.address.startswith(f"{request.language}-"):
            raise InvalidRequest("template: no address of that language")
        if any("://" in package or package.startswith("-") for package in request.packages):
            raise InvalidRequest("packages: not a name and a version")
        if any(package.startswith("nosuch") for package in request.packages):
            return Built(reason="There is no such package.")
        on_output("stdout", 0, b"installed\n")
        self._templates.add(request.address)
        return Built(lock=request.lock or "\n".join(request.packages), size_bytes=1)

    def discard(self, address: str) -> bool:
        known = address in self._templates
        self._templates.discard(address)
        return known

    def describe(self) -> dict:
        counts = {"ready": 1, "running": len(self._running), "starting": 0, "draining": 0, "failed": 0}
        engine = None if self._reasons else "fake"
        probe = {"engine": "fake", "ok": not self._reasons, "reasons": list(self._reasons)}
        limits = dict.fromkeys(("memory", "processes", "cpu", "disk", "output", "timeout"), "fake")
        sizes = {language: vars(size) for language, size in self._sizes.items()}
        said = {"engine": engine, "promises": [], "limits": limits, "probes": [probe], "process": os.getpid()}
        here = {"templates": sorted(self._templates), "builds": {"python": "", "node": "the fake runs Python only"}}
        with self._lock:
            self._end_what_is_due()
            kept = [each.describe() for each in self._kept.values()]
        held = {"most": 10, "sandboxes": kept, "ended": dict(self._ended)}
        return {**said, **here, "pools": {"python": counts}, "pool_sizes": sizes, "kept": held}


def _check(request: Request, reasons: list[str]) -> None:
    if reasons:
        raise RuntimeUnavailable(reasons)
    if request.language not in ("python", "node"):
        raise InvalidRequest(f"language: {request.language!r} is unknown")
    if request.language == "node":
        raise RuntimeUnavailable(["the fake runs Python only"])
    if request.network:
        raise InvalidRequest("network: this node's sandboxes have no network; the fake never has")
    if any(path.startswith("/") or "\0" in path or {"", ".", ".."} & {*path.split("/")} for path in request.files):
        raise InvalidRequest("files: a path is not inside /workspace")
    if any("\0" in text for text in (*request.args, *request.env.values())):
        raise InvalidRequest("a NUL character is not allowed")
    if not all(ENV_NAME.fullmatch(name) for name in request.env):
        raise InvalidRequest("env: no such name")


def _check_opening(opening: Opening, reasons: list[str]) -> None:
    _check(
        Request(id=opening.id, language=opening.language, code="", env=opening.env, network=opening.network), reasons
    )
    if not 0 < opening.expires_in_seconds <= 86_400 or not opening.id:
        raise InvalidRequest("the opening is not one")


@dataclass
class _FakeKept:
    opening: Opening
    ends_at: float
    folder: tempfile.TemporaryDirectory
    run: _FakeRun | None = None

    def describe(self) -> dict:
        return {
            "id": self.opening.id,
            "language": self.opening.language,
            "state": "idle" if self.run is None else "running",
            "expires_in_seconds": self.ends_at - time.monotonic(),
        }


@dataclass
class _FakeRun:
    request: Request
    scratch: Path
    on_output: OnOutput
    on_sample: OnSample | None = None
    stopped: str = ""
    child: subprocess.Popen | None = None
    written: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})
    truncated: set[str] = field(default_factory=set)

    def drive(self) -> Outcome:
        began = time.monotonic()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._start()
        assert self.child
        try:
            self._watch(began, began + self.request.timeout_seconds)
            status = self.child.wait()
        finally:
            self._end_group()
            self.child.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_ms = (after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime) * 1000
        return self._outcome(status, duration_ms=(time.monotonic() - began) * 1000, cpu_ms=cpu_ms)

    def _start(self) -> None:
        workspace = self.scratch / "workspace"
        shutil.rmtree(workspace / "artifacts", ignore_errors=True)
        (workspace / "artifacts").mkdir(parents=True)
        for path, content in self.request.files.items():
            (workspace / path).parent.mkdir(parents=True, exist_ok=True)
            (workspace / path).write_bytes(content)
        (self.scratch / "main.py").write_text(self.request.code)
        stdin = self.scratch / "stdin"
        stdin.write_bytes(self.request.stdin)
        with stdin.open("rb") as source:
            self.child = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, str(self.scratch / "main.py"), *self.request.args],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=workspace,
                env={"PATH": "/usr/bin:/bin", "HOME": str(self.scratch), **self.request.env},
                start_new_session=True,
            )

    def _watch(self, began: float, deadline: float) -> None:
        assert self.child
        assert self.child.stdout
        assert self.child.stderr
        ended = os.pidfd_open(self.child.pid)
        with (
            contextlib.ExitStack() as opened,
            selectors.DefaultSelector() as waiting,
            self.child.stdout as out,
            self.child.stderr as err,
        ):
            for stream, name in ((out, "stdout"), (err, "stderr")):
                os.set_blocking(stream.fileno(), False)
                waiting.register(stream, selectors.EVENT_READ, name)
            waiting.register(ended, selectors.EVENT_READ, "ended")
            opened.callback(os.close, ended)
            names: list[str] = []
            sample_due = began + SAMPLE_SECONDS
            while "ended" not in names:
                now = time.monotonic()
                if now >= deadline:
                    self.stop("timeout")
                elif now >= sample_due:
                    sample_due = now + SAMPLE_SECONDS
                    self._sample(now - began)
                wait = max(min(deadline, sample_due) - now, 0.01)
                names = [self._serve(key, waiting) for key, _ in waiting.select(wait)]
            for stream, name in ((out, "stdout"), (err, "stderr")):
                while self._read(stream.fileno(), name):
                    pass

    def _sample(self, seconds: float) -> None:
        assert self.child
        if self.on_sample is None or self.child.poll() is not None:
            return
        process = psutil.Process(self.child.pid)
        used = process.cpu_times()
        cpu_ms, memory_bytes = (used.user + used.system) * 1000, process.memory_info().rss
        self.on_sample(Sample(round(seconds * 1000), round(cpu_ms), memory_bytes, self._disk_bytes()))

    def _disk_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.scratch.rglob("*") if path.is_file())

    def _serve(self, key: selectors.SelectorKey, waiting: selectors.BaseSelector) -> str:
        if key.data != "ended" and self._read(key.fd, key.data) is False:
            waiting.unregister(key.fileobj)
        return key.data

    def _read(self, descriptor: int, name: str) -> bool | None:
        try:
            part = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return None
        kept = self.written[name]
        room = (self.request.limits.output_kb << 10) - len(kept)
        if part[:room]:
            self.on_output(name, len(kept), part[:room])
            kept += part[:room]
        if len(part) > room:
            self.truncated.add(name)
            self.stop("output")
        return bool(part)

    def stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason
        self._end_group()

    def _end_group(self) -> None:
        assert self.child
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _outcome(self, status: int, *, duration_ms: float, cpu_ms: float) -> Outcome:
        folder = os.open(self.scratch, os.O_RDONLY)
        try:
            collected = artifacts.collect(folder)
        finally:
            os.close(folder)
        stderr = bytes(self.written["stderr"])
        exit_code, number = (None, 9) if self.stopped else (status, None) if status >= 0 else (None, -status)
        facts = breaches.Facts(stopped=self.stopped, failed=exit_code != 0, stderr=stderr)
        return Outcome(
            exit_code=exit_code,
            signal=number,
            breach=breaches.recognise(facts),
            cancelled=self.stopped == "cancelled",
            stdout=bytes(self.written["stdout"]),
            stderr=stderr,
            stdout_truncated="stdout" in self.truncated,
            stderr_truncated="stderr" in self.truncated,
            artifacts=tuple(Artifact(path, content) for path, content in collected.files),
            artifacts_truncated=tuple(collected.left_out),
            duration_ms=duration_ms,
            startup_ms=0.0,
            cpu_ms=cpu_ms,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10,
            disk_bytes=self._disk_bytes(),
            network_sent_bytes=0,
            network_received_bytes=0,
        )


class FakeTarget:
    """A scaling target in memory: says the load it is told to say, takes the size it is given."""

    label = "Fake things"

    def __init__(self, size: int = 2, **metrics: Any) -> None:
        self.sizes = {"one": size, "two": size}
        self.metrics: dict[str, Any] = {"cpu": 0.7, "memory": 0.5} | metrics
        self.moves: list[tuple[str, str, int]] = []
        self.fails_with: Exception | None = None
        self.most = 1000

    def choices(self) -> list[tuple[str, str]]:
        return [(target_id, f"Fake {target_id}") for target_id in self.sizes]

    def load(self, target_id: str, *, now: datetime) -> Load:
        self.current(target_id)
        return Load(**{"observed_at": now} | self.metrics)

    def current(self, target_id: str) -> int:
        if target_id not in self.sizes:
            raise UnknownTarget(f"There is no fake “{target_id}”.")
        return self.sizes[target_id]

    def resize(self, target_id: str, *, to: int, now: datetime) -> None:
        self._move("resize", target_id, to)

    def drain(self, target_id: str, *, to: int, now: datetime) -> None:
        self._move("drain", target_id, to)

    def _move(self, verb: str, target_id: str, to: int) -> None:
        self.current(target_id)
        if self.fails_with:
            raise self.fails_with
        self.moves.append((verb, target_id, to))
        self.sizes[target_id] = min(to, self.most)
