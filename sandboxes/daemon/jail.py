"""The bubblewrap engine: shared kernel, namespaces, system-call filter, cgroup where the machine has one."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sandboxes.daemon import bubblewrap, cgroups, seccomp
from sandboxes.daemon.bubblewrap import CannotStart, Place, Zygote
from sandboxes.daemon.egress import Policy
from sandboxes.daemon.engines import NotOffered, Probe
from sandboxes.daemon.pools import Pool, Room, Size
from sandboxes.daemon.run import NUMERIC, Order, Run
from sandboxes.daemon.slots import Slot, SlotLost
from sandboxes.daemon.stage import CannotStage
from sandboxes.limits import Limits

CHECK = Path(__file__).parent / "check.py"
CHECK_SECONDS = 10
SOFT = {
    "memory": "soft (rlimit for each process, sampled together every 25 ms)",
    "pids": "rlimit of the slot's own user namespace",
    "cpu": "soft (whole cores by affinity)",
}


class Bubblewrap:
    name = "bubblewrap"

    def __init__(
        self,
        *,
        find_place: Callable[[], Place],
        groups: cgroups.Groups,
        libraries: Callable[[str, str], Path | None],
        size: Size,
        network: Policy | None = None,
    ) -> None:
        self.groups = groups
        self.network = network
        self._find_place = find_place
        self._libraries = libraries
        self._size = size
        self._rooms: dict[tuple[str, str], Room] = {}
        self._place: Place | None = None

    @property
    def is_probed(self) -> bool:
        return self._place is not None

    @property
    def place(self) -> Place:
        assert self._place, "probe first"
        return self._place

    def probe(self) -> Probe:
        """Start a real zygote, run a program that tries to get out, and believe only what it could not do."""
        zygote = None
        try:
            self._place = self._find_place()
            zygote = self.zygote("python", None, ())
            faults = self._faults(zygote)
        except (CannotStart, CannotStage, SlotLost, OSError, seccomp.UnknownMachine) as problem:
            faults = [str(problem), *_hints()]
        finally:
            if zygote is not None:
                zygote.stop()
        return Probe(self.name, ok=not faults, reasons=tuple(faults))

    def _faults(self, zygote: Zygote) -> list[str]:
        slot = self.slot(zygote)
        try:
            said = run_check(slot, CHECK.read_bytes())
        finally:
            slot.discard()
        try:
            return list(json.loads(said))
        except ValueError:
            return [f"the self-test did not finish: {said.decode(errors='replace')[-500:]}"]

    def promises(self) -> list[str]:
        users = "one unprivileged user for each slot" if self.place.users.are_separate else "the daemon's own user"
        return [
            "Shares the host's kernel; separated by user, process, mount, network, IPC and host name namespaces.",
            f"Runs as {users}, with no capability and no way to gain one; never as root.",
            "System calls that reach for namespaces, mounts, tracing, keys, BPF or io_uring are refused.",
            self._promise_of_network(),
            "Read-only system; writes go to a scratch space of limited size that ends with the execution.",
            "One sandbox serves one execution and is then destroyed.",
        ]

    def _promise_of_network(self) -> str:
        if self.network is None:
            return "No network of any kind; only local Unix sockets inside the sandbox."
        reach = "public addresses, never this machine or private networks, and not port 25"
        if self.network.only is not None:
            reach = f"these places only: {self.network.as_text().replace(',', ', ')}"
        return f"No network, unless an execution asks for it; then TCP through a proxy, outward only: {reach}."

    def limits(self) -> dict[str, str]:
        counted = dict.fromkeys(self.groups.controllers, self.groups.name)
        return {
            "memory": counted.get("memory", SOFT["memory"]),
            "processes": counted.get("pids", SOFT["pids"]),
            "cpu": counted.get("cpu", SOFT["cpu"]),
            "disk": "tmpfs size and 20,000 inodes",
            "network": "64 connections at once, idle ones for 5 minutes" if self.network else "none",
            "output": "counted by the daemon for each stream",
            "timeout": "the daemon's monotonic clock",
        }

    def languages(self) -> list[str]:
        return ["python", "node"] if self.place.node else ["python"]

    def preloads_numeric(self, language: str, template: str) -> bool:
        return language == "python" and not template and self._libraries(language, template) is not None

    def open_pool(self, language: str, template: str, *, network: bool = False, numeric: bool = False) -> Pool:
        if language not in self.languages():
            raise NotOffered(f"{language} is not installed on this node")
        libraries = self._libraries(language, template)
        preload = (bubblewrap.PRELOADED + (NUMERIC if numeric else ())) if language == "python" else ()
        pool = Pool(
            start_zygote=lambda: self.zygote(language, libraries, preload, network=network),
            make_slot=self.slot,
            # Only what everybody uses is kept ready without being asked for.
            size=replace(self._size, ready=0) if template or network else self._size,
            room=self._rooms.setdefault((language, template), Room(self._size.running)),
        )
        pool.open()
        return pool

    def zygote(self, language: str, libraries: Path | None, preload: tuple[str, ...], **special) -> Zygote:
        soft = "memory" not in self.groups.controllers
        kind = {"place": self.place, "language": language, "libraries": libraries, "preload": preload, "soft": soft}
        return Zygote(**kind | special)

    def slot(self, zygote: Zygote) -> Slot:
        return Slot(zygote=zygote, groups=self.groups, users=self.place.users)

    def close(self) -> None:
        self.groups.close()


def run_check(slot: Slot, code: bytes) -> bytes:
    """What a program of ours prints in a slot of its own."""
    order = Order("check", "python", "", code, b"", (), {}, {}, CHECK_SECONDS, Limits())
    ours, theirs = socket.socketpair()
    cancel = os.eventfd(0)
    said: list[bytes] = []
    with ours, theirs:
        reader = threading.Thread(target=_drain, args=(theirs,))
        reader.start()
        try:
            run = Run(slot=slot, order=order, client=ours, cancel=cancel)
            slot.arm(order.limits)
            run.begin()
            run.drive()
            said = [stream.tail for stream in run.streams.values()]
        finally:
            os.close(cancel)
            ours.shutdown(socket.SHUT_RDWR)
            reader.join()
    return said[0] or said[1]


def _drain(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


def _hints() -> list[str]:
    """The usual settings of a machine that forbid user namespaces, when they are on."""
    known = (
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "set kernel.unprivileged_userns_clone to 1"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "allow bwrap user namespaces in AppArmor"),
        ("/proc/sys/user/max_user_namespaces", "0", "set user.max_user_namespaces above 0"),
    )
    return [hint for path, bad, hint in known if Path(path).is_file() and Path(path).read_text().strip() == bad]
