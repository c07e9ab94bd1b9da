"""The bubblewrap engine: shared kernel, namespaces, system-call filter, cgroup where the machine has one."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from sandboxes.daemon import bubblewrap, cgroups, seccomp
from sandboxes.daemon.bubblewrap import Place, Zygote
from sandboxes.daemon.egress import Policy
from sandboxes.daemon.engines import CannotStart, NotOffered, Probe, SlotLost
from sandboxes.daemon.pools import Pool, Room, Size
from sandboxes.daemon.run import NUMERIC, Order, Run
from sandboxes.daemon.slots import Slot
from sandboxes.daemon.stage import CannotStage
from sandboxes.limits import Limits

CHECK = Path(__file__).parent / "check.py"
CHECK_SECONDS = 10
CANNOT_START = (CannotStart, CannotStage, SlotLost, seccomp.UnknownMachine)
SomeSlot = TypeVar("SomeSlot", bound=Slot)
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
        self.size = size
        self._rooms: dict[tuple[str, str], Room] = {}
        self._place: Place | None = None

    @property
    def is_probed(self) -> bool:
        return self._place is not None

    @property
    def place(self) -> Place:
        """Found once: the view of the files that is arranged for it is the process's own from then on."""
        if self._place is None:
            self._place = self._find_place()
        return self._place

    def probe(self) -> Probe:
        """Start a real zygote, run a program that tries to get out, and believe only what it could not do."""
        zygote = None
        try:
            zygote = self.zygote("python", None, ())
            faults = self_test(self.slot(zygote), CHECK.read_bytes())
        except (*CANNOT_START, OSError) as problem:
            faults = [str(problem), *_hints()]
        finally:
            if zygote is not None:
                zygote.stop()
        return Probe(self.name, ok=not faults, reasons=tuple(faults))

    def promises(self) -> list[str]:
        users = "one unprivileged user for each slot" if self.place.users.are_separate else "the daemon's own user"
        return [
            "Shares the host's kernel; separated by user, process, mount, network, IPC and host name namespaces.",
            f"Runs as {users}, with no capability and no way to gain one; never as root.",
            "System calls that reach for namespaces, mounts, tracing, keys, BPF or io_uring are refused.",
            self.promise_of_network(),
            "Read-only system; writes go to a scratch space of limited size that ends with the execution.",
            "One sandbox serves one execution and is then destroyed.",
        ]

    def promise_of_network(self) -> str:
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
        libraries = self.libraries(language, template)
        preload = (bubblewrap.PRELOADED + (NUMERIC if numeric else ())) if language == "python" else ()
        pool = Pool(
            start_zygote=lambda: self.zygote(language, libraries, preload, network=network),
            make_slot=self.slot,
            size=self.size_of(template, network=network),
            room=self.room(language, template),
        )
        pool.open()
        return pool

    def libraries(self, language: str, template: str) -> Path | None:
        if language not in self.languages():
            raise NotOffered(f"{language} is not installed on this node")
        return self._libraries(language, template)

    def size_of(self, template: str, *, network: bool) -> Size:
        """Only what everybody uses is kept ready without being asked for."""
        return replace(self.size, ready=0) if template or network else self.size

    def room(self, language: str, template: str) -> Room:
        return self._rooms.setdefault((language, template), Room(self.size.running))

    def zygote(self, language: str, libraries: Path | None, preload: tuple[str, ...], **special) -> Zygote:
        soft = "memory" not in self.groups.controllers
        kind = {"place": self.place, "language": language, "libraries": libraries, "preload": preload, "soft": soft}
        return Zygote(**kind | special)

    def slot(self, zygote: Zygote, *, kind: type[SomeSlot] = Slot) -> SomeSlot:
        return kind(zygote=zygote, groups=self.groups, users=self.place.users)


def self_test(
    slot: Slot,
    code: bytes,
    *,
    language: str = "python",
    arguments: tuple[str, ...] = (),
    seconds: float = CHECK_SECONDS,
) -> list[str]:
    """What a program of ours, in a slot that it uses up, says it could do but should not."""
    order = Order("check", language, "", code, b"", arguments, {}, {}, seconds, Limits())
    try:
        said = _said_by(slot, order)
    finally:
        slot.discard()
    try:
        return list(json.loads(said))
    except ValueError:
        last = f"{said.decode(errors='replace')[-500:]} {slot.zygote.last_words()}".strip()
        return [f"the self-test did not finish: {last}"]


def _said_by(slot: Slot, order: Order) -> bytes:
    ours, theirs = socket.socketpair()
    cancel = os.eventfd(0)
    with ours, theirs:
        reader = threading.Thread(target=_drain, args=(theirs,))
        reader.start()
        try:
            run = Run(slot=slot, order=order, client=ours, cancel=cancel)
            slot.arm(order.limits)
            run.begin()
            run.drive()
        finally:
            os.close(cancel)
            ours.shutdown(socket.SHUT_RDWR)
            reader.join()
    said, complained = (stream.tail for stream in run.streams.values())
    return said or complained


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
