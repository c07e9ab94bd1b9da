"""Keeps the product's processes: starts them in order, restarts what dies, stops them cleanly.

    python -m ntd_site.supervisor      (what `manage.py up` becomes)

    servers -> prepare (checks, migrations, first operator) -> product -> ready
       any part dies: restart with back-off 0.5 s .. 30 s; Ctrl-C or SIGTERM: stop in reverse order
       the supervisor itself dies: the kernel tells every child (PR_SET_PDEATHSIG)

It imports no Django, so that it stays small and outlives anything the application does.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ntd_site import embedded, parts, preparing
from ntd_site.parts import Options, Part, Provided
from sandboxes.daemon import libraries

BACK_OFF = (0.5, 30.0)
STEADY_SECONDS = 60.0
STOP_SECONDS = 10.0
READY_SECONDS = 90.0
LOG_BYTES = 20_000_000


class StartFailed(Exception):
    """Raised when the product cannot come up; the text is for the person who typed `up`."""


class Terminal:
    """What people read (prefixed lines), what programs read (`--json-log`), and a file for each part."""

    def __init__(self, folder: Path, json_log: str) -> None:
        folder.mkdir(exist_ok=True, mode=0o700)
        self.folder = folder
        self._json: IO[str] | None = open(json_log, "a", buffering=1) if json_log else None  # noqa: SIM115

    def say(self, text: str) -> None:
        print(f"ntd        | {text}", flush=True)

    def event(self, name: str, **details: Any) -> None:
        if self._json:
            self._json.write(json.dumps({"event": name, "at": time.time(), **details}) + "\n")

    def file_of(self, name: str) -> IO[bytes]:
        path = self.folder / f"{name}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return open(path, "ab", buffering=0)  # noqa: SIM115 - kept as long as the part runs

    def last_lines(self, name: str, count: int = 8) -> str:
        with suppress(OSError):
            return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-count:])
        return ""


class Keeper:
    """One part: its process, and its restarts."""

    def __init__(self, part: Part, terminal: Terminal, changed: Any) -> None:
        self.part = part
        self.restarts = -1
        self.started_at = 0.0
        self.process: asyncio.subprocess.Process | None = None
        self.first_line: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._terminal = terminal
        self._changed = changed
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._spawn()
        self._task = asyncio.create_task(self._keep())

    async def _spawn(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self.part.command,
            cwd=self.part.folder,
            env=parts.environment_of(self.part),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=1 << 20,
            # Its own session: Ctrl-C reaches the supervisor alone, which then stops all in order.
            start_new_session=True,
            preexec_fn=embedded.child_setup(unprivileged=self.part.unprivileged, death_signal=self.part.death_signal),
        )
        self.restarts += 1
        self.started_at = time.time()
        self._changed()

    async def _keep(self) -> None:
        wait = BACK_OFF[0]
        while True:
            began = time.monotonic()
            code = await self._run_to_its_end()
            if self._stopping:
                return
            wait = BACK_OFF[0] if time.monotonic() - began > STEADY_SECONDS else wait
            self._terminal.say(f"{self.part.name} ended with code {code}; starting it again in {wait:g} s")
            self._terminal.event("part_ended", part=self.part.name, code=code)
            self._changed()
            await asyncio.sleep(wait)
            wait = min(wait * 2, BACK_OFF[1])
            await self._spawn()

    async def _run_to_its_end(self) -> int:
        assert self.process is not None
        relay = asyncio.create_task(self._relay())
        code = await self.process.wait()
        # A grandchild may hold the pipe open; what the part itself said is read within a moment.
        await asyncio.wait({relay}, timeout=1)
        relay.cancel()
        return code

    async def _relay(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        with self._terminal.file_of(self.part.name) as file:
            while True:
                try:
                    line = await self.process.stdout.readline()
                except ValueError:
                    continue  # a line past the limit: dropped, the reader goes on after it
                if not line:
                    return
                file.write(line)
                if not self.first_line.done():
                    self.first_line.set_result(line.decode(errors="replace"))
                if _is_worth_showing(line):
                    sys.stdout.write(f"{self.part.name:<10} | {line.decode(errors='replace')}")
                    sys.stdout.flush()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def stop(self) -> None:
        self._stopping = True
        if self._task and not self.is_running:
            self._task.cancel()
        if not self.is_running or self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(self.part.stop_signal)
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._terminal.say(f"{self.part.name} does not stop; killing it")
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        self._stopping = True
        if self.is_running and self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()


def _is_worth_showing(line: bytes) -> bool:
    return b'"event": "ready"' not in line and b'"event":"ready"' not in line


class Supervisor:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.where = embedded.place(parts.home())
        self.terminal = Terminal(self.where.home / "logs", options.json_log)
        self.keepers: list[Keeper] = []
        self._stop_asked = asyncio.Event()
        self._is_ready = False
        self.provided = Provided()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(name, self._on_stop_signal)
        try:
            start = asyncio.create_task(self._start())
            asked = asyncio.create_task(self._stop_asked.wait())
            await asyncio.wait({start, asked}, return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                start.result()
                await self._stop_asked.wait()
            start.cancel()
            with suppress(asyncio.CancelledError, StartFailed):
                await start
            return 0
        except (StartFailed, embedded.CannotStart) as failed:
            self.terminal.say(str(failed))
            self.terminal.event("failed", detail=str(failed))
            return 1
        finally:
            await self._stop_all()

    def _on_stop_signal(self) -> None:
        if self._stop_asked.is_set():
            self.terminal.say("stopping at once")
            for keeper in self.keepers:
                keeper.kill()
        self._stop_asked.set()

    # --- start ---

    async def _start(self) -> None:
        began = time.monotonic()
        provision = asyncio.create_task(asyncio.to_thread(self._provide))
        await asyncio.gather(*(self._start_server(part) for part in self._servers()))
        preparation = asyncio.create_task(self._prepare())
        self.provided = await provision
        daemons = [await self._keep(part) for part in self._product("sandboxes")]
        # The same code prepared this home before: it changes nothing the product waits for.
        prepared = None if preparing.is_done(self.where) else await preparation
        for part in self._product("web", "worker", "scheduler"):
            await self._keep(part)
        prepared = prepared or await preparation
        await self._until_ready()
        preparing.mark_done(self.where)
        self._is_ready = True
        self._write_status()
        await self._greet(prepared, daemons, time.monotonic() - began)

    def _provide(self) -> Provided:
        try:
            return parts.provide(self.where, say=self.terminal.say)
        except libraries.CannotInstall as failed:
            # Programs without imports still run, and `up` again tries again.
            self.terminal.say(f"Sandboxes start without their packages. {failed}")
            return Provided()

    def _servers(self) -> list[Part]:
        found = parts.servers(self.where)
        if any(part.name == "postgres" for part in found):
            embedded.initialise_postgres(self.where.home / "postgres")
            embedded.clear_stale_postgres(self.where)
        return found

    def _product(self, *kinds: str) -> list[Part]:
        every = parts.product(self.where, self.options, self.provided)
        return [part for part in every if part.name.split("-")[0] in kinds]

    async def _keep(self, part: Part) -> Keeper:
        keeper = Keeper(part, self.terminal, self._write_status)
        self.keepers.append(keeper)
        self.terminal.event("part_starting", part=part.name)
        await keeper.start()
        return keeper

    async def _start_server(self, part: Part) -> None:
        keeper = await self._keep(part)
        answers = embedded.valkey_answers if part.name == "valkey" else embedded.postgres_answers
        deadline = time.monotonic() + embedded.START_SECONDS
        while not await asyncio.to_thread(answers, self.where):
            if time.monotonic() > deadline or keeper.restarts > 2:
                raise StartFailed(f"{part.name} does not start:\n{self.terminal.last_lines(part.name)}")
            await asyncio.sleep(0.03)
        if part.name == "postgres":
            await asyncio.to_thread(embedded.ensure_database, self.where)

    async def _prepare(self) -> dict[str, Any]:
        command = [sys.executable, "manage.py", "prepare"]
        if not self.options.sample:
            command.append("--no-sample")
        if self.options.is_worker:  # the coordinator migrates and has the people
            command.append("--only-check")
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=parts.ROOT,
            env=dict(os.environ) | parts.environment(self.where, self.options),
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=embedded.child_setup(unprivileged=False),
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise StartFailed(output.decode(errors="replace").strip() or "The preparation failed; see above.")
        found: dict[str, Any] = json.loads(output.decode().strip().splitlines()[-1])
        return found

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            status, detail = await asyncio.to_thread(_ask_health, self.options)
            if status == 200 or (self.options.role == "coordinator" and _lacks_only_workers(detail)):
                return
            for keeper in self.keepers:
                if keeper.restarts > 4:
                    name = keeper.part.name
                    raise StartFailed(f"{name} keeps ending at its start:\n{self.terminal.last_lines(name)}")
            if time.monotonic() > deadline:
                raise StartFailed(f"Not ready within {READY_SECONDS:g} seconds. /health says: {detail}")
            await asyncio.sleep(0.1)

    async def _greet(self, prepared: dict[str, Any], daemons: list[Keeper], seconds: float) -> None:
        self.terminal.say(f"ready in {seconds:.1f} s: {self.options.url}")
        self.terminal.say(f"sandboxes: {prepared.get('engine') or await _engine(daemons[0])}")
        if prepared.get("sign_in_url"):
            self.terminal.say(f"sign in as {prepared['email']} (the link works once): {prepared['sign_in_url']}")
        self.terminal.event("ready", url=self.options.url, sign_in_url=prepared.get("sign_in_url"), seconds=seconds)

    # --- stop ---

    async def _stop_all(self) -> None:
        if self.keepers:
            self.terminal.say("stopping")
        groups = (("scheduler", "worker"), ("web", "sandboxes"), ("valkey", "postgres"))
        for kinds in groups:
            chosen = [keeper for keeper in self.keepers if keeper.part.name.split("-")[0] in kinds]
            await asyncio.gather(*(keeper.stop() for keeper in chosen))
        status_file(self.where).unlink(missing_ok=True)
        self.terminal.event("stopped")

    def _write_status(self) -> None:
        described = [
            {
                "name": keeper.part.name,
                "pid": keeper.process.pid if keeper.process and keeper.is_running else None,
                "started_at": keeper.started_at,
                "restarts": max(0, keeper.restarts),
            }
            for keeper in self.keepers
        ]
        status = {"pid": os.getpid(), "url": self.options.url, "ready": self._is_ready, "parts": described}
        fresh = status_file(self.where).with_suffix(".new")
        fresh.write_text(json.dumps(status))
        fresh.replace(status_file(self.where))


def status_file(where: embedded.Place) -> Path:
    return where.home / "status.json"


def _ask_health(options: Options) -> tuple[int, str]:
    import urllib.error
    import urllib.request

    host = "127.0.0.1" if options.host in ("0.0.0.0", "::") else options.host
    address = options.url if options.is_worker else f"http://{host}:{options.port}"
    headers = {} if options.is_worker else {"Host": "localhost"}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{address}/health", headers=headers), timeout=5) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, f"{address} does not answer: {error}"


def _lacks_only_workers(detail: str) -> bool:
    """A coordinator is ready before its workers are, which run on other machines."""
    try:
        return {name for name, part in json.loads(detail)["parts"].items() if not part["ok"]} <= {"workers"}
    except (ValueError, KeyError):
        return False


async def _engine(daemon: Keeper) -> str:
    try:
        line = await asyncio.wait_for(asyncio.shield(daemon.first_line), 5)
        return str(json.loads(line)["engine"])
    except (TimeoutError, ValueError, KeyError):
        return "no engine; see `manage.py sandbox_check`"


def check_port(options: Options) -> None:
    """Raises StartFailed with a sentence when the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except OSError as error:
            raise StartFailed(
                f"Cannot listen on {options.host}:{options.port}: {error.strerror or error}. "
                f"Stop what uses it, or choose another port: manage.py up --port {options.port + 1}"
            ) from error


def check_role(options: Options) -> None:
    """Raises StartFailed when a worker does not know the servers it works with."""
    needed = ("COORDINATOR_URL", "DATABASE_URL", "REDIS_URL")
    missing = [name for name in needed if not os.environ.get(name)]
    if options.is_worker and missing:
        raise StartFailed(
            f"FEDERATION_ROLE=worker needs {' and '.join(missing)}: "
            "the coordinator's address, and the PostgreSQL and Redis that it uses."
        )


def take_lock(where: embedded.Place) -> IO[str]:
    """Only one supervisor per home; the lock goes with the process, however it ends."""
    file = open(where.home / "supervisor.lock", "a")  # noqa: SIM115 - held until the process ends
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StartFailed(f"ntd is already up from {where.home}. Stop it: manage.py down") from error
    return file


def parse(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="manage.py up", description="Start the whole product on this machine.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
    parser.add_argument("--nodes", type=int, default=1, help="worker nodes to run on this machine (1)")
    parser.add_argument("--no-sample", dest="sample", action="store_false", help="leave out the sample federation")
    parser.add_argument("--json-log", default="", metavar="FILE", help="append events as JSON lines to FILE")
    given = parser.parse_args(arguments)
    if not 1 <= given.nodes <= 64:
        parser.error("--nodes must be from 1 to 64")
    return Options(**vars(given))


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        check_role(options)
        held = take_lock(embedded.place(parts.home()))
        if not options.is_worker:
            check_port(options)
    except (StartFailed, embedded.CannotStart) as failed:
        print(f"ntd        | {failed}", file=sys.stderr)
        return 1
    with held:
        return asyncio.run(_run(options))


async def _run(options: Options) -> int:
    return await Supervisor(options).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
