"""Which processes make up the running product, in the order they start. Standard library only.

valkey, postgres      unless REDIS_URL, DATABASE_URL name others
sandboxes[-n]         the sandbox daemon of a node: no Django, no secrets, of the environment what pip and npm are told
web                   pages, API, sockets
worker[-n]            background tasks of a node
scheduler             sends the periodic background tasks
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ntd_site import embedded
from sandboxes.daemon import libraries

ROOT = Path(__file__).resolve().parent.parent
WORKER_THREADS = 8
# As many as E2B's smallest account may have; settings.py says the same.
E2B_SANDBOXES = 20


@dataclass(frozen=True)
class Options:
    host: str = "127.0.0.1"
    port: int = 8000
    nodes: int = 1
    sample: bool = True
    json_log: str = ""
    # What of the product this machine runs: a worker gives its hands to a coordinator elsewhere.
    role: str = field(default_factory=lambda: os.environ.get("FEDERATION_ROLE") or "both")

    @property
    def is_worker(self) -> bool:
        return self.role == "worker"

    @property
    def url(self) -> str:
        if self.is_worker:
            return os.environ.get("COORDINATOR_URL", "").rstrip("/")
        shown = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return os.environ.get("NTD_BASE_URL") or f"http://{shown}:{self.port}"


@dataclass(frozen=True)
class Part:
    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    # PostgreSQL takes SIGINT as "fast": end the sessions and stop. SIGTERM would wait for every client.
    stop_signal: signal.Signals = signal.SIGTERM
    # What the kernel sends when the supervisor dies. Ours are built to be killed; servers and the daemon tidy up.
    death_signal: signal.Signals = signal.SIGTERM
    unprivileged: bool = False
    folder: Path = ROOT


@dataclass(frozen=True)
class Provided:
    """What sandboxes are given: the packages Python programs may import, and the Node that runs theirs."""

    python_libraries: str = ""
    node: str = ""


def provide(where: embedded.Place, *, say: Callable[[str], None]) -> Provided:
    """Install what sandboxes need, once; later starts need no network. Raises libraries.CannotInstall."""
    lock = ROOT / "requirements-sandbox.lock"
    if not (where.home / "libraries" / libraries.address(lock)).is_dir():
        say("installing the packages of the sandboxes (once)")
    python_libraries = libraries.ensure_libraries(where.home, lock)
    node = shutil.which("node")
    if node is None:
        packages = libraries.ensure_libraries(where.home, ROOT / "requirements-sandbox-node.lock", language="node")
        node = str(next(packages.glob("*/bin/node"), ""))
    return Provided(str(python_libraries), node)


def home() -> Path:
    return Path(os.environ.get("NTD_HOME") or ROOT / ".ntd").expanduser().resolve()


def servers(where: embedded.Place) -> list[Part]:
    """The embedded servers that this installation needs."""
    parts = []
    if not os.environ.get("REDIS_URL"):
        parts.append(Part("valkey", embedded.valkey_command(where)))
    if not os.environ.get("DATABASE_URL"):
        command = embedded.postgres_command(where)
        parts.append(
            Part("postgres", command, stop_signal=signal.SIGINT, death_signal=signal.SIGINT, unprivileged=True)
        )
    return parts


def product(where: embedded.Place, options: Options, provided: Provided) -> list[Part]:
    """Everything of our own, for one machine that plays `nodes` nodes."""
    names = [_node_name(number, options.nodes) for number in range(1, options.nodes + 1)]
    parts = [sandbox_daemon(where, name, options, provided) for name in names]
    if not options.is_worker:
        parts.append(_web(where, names[0], options))
    if options.role != "coordinator":
        parts += [_worker(where, name, options) for name in names]
    if not options.is_worker:
        parts.append(_scheduler(where, names[0], options))
    return parts


def _node_name(number: int, nodes: int) -> str:
    name = os.environ.get("NTD_NODE_NAME") or os.uname().nodename
    return name if nodes == 1 else f"{name}-{number}"


def _suffix(name: str, options: Options) -> str:
    return "" if options.nodes == 1 else f"-{name.rpartition('-')[2]}"


def sandbox_socket(where: embedded.Place, name: str, options: Options) -> str:
    return os.environ.get("NTD_SANDBOX_SOCKET") or str(where.run / f"sandboxes{_suffix(name, options)}.sock")


def environment(where: embedded.Place, options: Options, *, name: str = "") -> dict[str, str]:
    """What our Django processes add to the environment they inherit."""
    own = {"NTD_HOME": str(where.home), "NTD_BASE_URL": options.url, "PYTHONUNBUFFERED": "1"}
    # The start has checked everything; checking again in each process would load what it does not use.
    own["CELERY_SKIP_CHECKS"] = "1"
    # Else glibc keeps freed memory apart for each of eight times as many threads as there are cores.
    own["MALLOC_ARENA_MAX"] = os.environ.get("MALLOC_ARENA_MAX") or "2"
    if name:
        own |= {"NTD_NODE_NAME": name, "NTD_SANDBOX_SOCKET": sandbox_socket(where, name, options)}
    if options.host not in ("127.0.0.1", "localhost") and not os.environ.get("ALLOWED_HOSTS"):
        hosts = "*" if options.host in ("0.0.0.0", "::") else options.host
        own["ALLOWED_HOSTS"] = f"localhost,127.0.0.1,[::1],{hosts}"
    return own


def environment_of(part: Part) -> dict[str, str]:
    """All that its process is told."""
    if not part.environment:  # servers and the sandbox daemon: nothing of ours, least of all secrets
        kept = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")
        # How the operator told pip and npm where packages come from: templates are built with what these say.
        package_tools = ("PIP_", "npm_config_", "NPM_CONFIG_")
        passed = {name: value for name, value in os.environ.items() if name in kept or name.startswith(package_tools)}
        return passed | {"PYTHONUNBUFFERED": "1"}
    return dict(os.environ) | part.environment


def sandbox_daemon(where: embedded.Place, name: str, options: Options, provided: Provided) -> Part:
    suffix = _suffix(name, options)
    command = [sys.executable, "-m", "sandboxes.daemon", "--socket", sandbox_socket(where, name, options)]
    command += ["--state", str(where.home / f"sandboxes{suffix}")]
    command += ["--network", os.environ.get("NTD_SANDBOX_NETWORK") or "off"]
    command += ["--kept", os.environ.get("NTD_KEPT_SANDBOXES") or "10"]
    command += ["--engine", os.environ.get("NTD_SANDBOX_ENGINE") or "auto"]
    if os.environ.get("RUNSC_PATH"):
        command += ["--runsc", os.environ["RUNSC_PATH"]]
    if _is_on("NTD_SANDBOX_GVISOR_SOFT_MEMORY"):
        command.append("--gvisor-soft-memory")
    if provided.python_libraries:
        command += ["--python-libraries", provided.python_libraries]
    if provided.node:
        command += ["--node", provided.node]
    return Part(f"sandboxes{suffix}", command)


def _is_on(name: str) -> bool:
    """As the settings read a switch."""
    return os.environ.get(name, "").lower() in ("true", "on", "ok", "y", "yes", "1")


def _web(where: embedded.Place, name: str, options: Options) -> Part:
    command = [sys.executable, "-m", "uvicorn", "ntd_site.asgi:application", "--host", options.host]
    command += [
        "--port",
        str(options.port),
        "--lifespan",
        "off",
        "--no-access-log",
        "--no-server-header",
        "--log-level",
        "warning",
    ]
    # The largest result of a task in one frame, among others.
    command += [
        "--ws-max-size",
        str(4 * 1024 * 1024),
        "--ws-per-message-deflate",
        "false",
        "--timeout-graceful-shutdown",
        "3",
    ]
    own = environment(where, options, name=name) | {"NTD_DB_POOL": "1", "NTD_PROCESS": "web"}
    return Part("web", command, own, death_signal=signal.SIGKILL)


def _worker_threads() -> int:
    """One for each execution at once: those at E2B only wait, so they come on top."""
    given = os.environ.get("NTD_WORKER_THREADS")
    if given:
        return int(given)
    at_e2b = int(os.environ.get("E2B_MAX_SANDBOXES") or E2B_SANDBOXES) if os.environ.get("E2B_API_KEY") else 0
    return WORKER_THREADS + at_e2b


def _worker(where: embedded.Place, name: str, options: Options) -> Part:
    suffix = _suffix(name, options)
    command = [sys.executable, "-m", "celery", "--quiet", "-A", "ntd_site.celery", "worker", "--pool", "threads"]
    command += ["--concurrency", str(_worker_threads()), "--loglevel", "WARNING"]
    # The last one is the node's own: what only its sandbox daemon can do.
    command += ["--queues", f"default,executions,sweeps,node.{name}", "--hostname", f"worker@{name}"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    own = environment(where, options, name=name) | {"NTD_DB_POOL": "1", "NTD_PROCESS": "worker"}
    # Untrusted code runs in the sandbox daemon's jail, never in the worker, so root's worker is no news.
    own["PYTHONWARNINGS"] = "ignore:You're running the worker with superuser"
    return Part(f"worker{suffix}", command, own, death_signal=signal.SIGKILL)


def _scheduler(where: embedded.Place, name: str, options: Options) -> Part:
    command = [sys.executable, "-m", "celery", "--quiet", "-A", "ntd_site.celery", "beat", "--loglevel", "WARNING"]
    command += ["--pidfile", ""]
    return Part(
        "scheduler",
        command,
        environment(where, options, name=name) | {"NTD_PROCESS": "scheduler"},
        death_signal=signal.SIGKILL,
    )
