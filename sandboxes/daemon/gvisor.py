"""The gVisor engine: programs run on a kernel of their own, in user space, which bubblewrap holds as it holds programs.

    daemon ==> bwrap ==> zygote ==> gvisor_init ==> runsc: gVisor's kernel ==> guest_init ==> the program

Who gets out of gVisor's kernel is where a program of the bubblewrap engine begins: a user without rights, without
network, in namespaces of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sandboxes.daemon import bubblewrap, jail, runsc, seccomp
from sandboxes.daemon.bubblewrap import Zygote
from sandboxes.daemon.cgroups import Counted
from sandboxes.daemon.engines import Probe, SlotLost
from sandboxes.daemon.pools import Pool
from sandboxes.daemon.slots import Slot
from sandboxes.limits import Limits

# Measured: 31 MB for gvisor_init, gVisor's kernel, its file server and the guest's init.
OVERHEAD_MB = 32
# The kernel's own threads; beside them each process of the program is a few tasks of the host's.
OVERHEAD_TASKS = 512
TASKS_EACH = 2 + (os.cpu_count() or 1)
TOO_OLD = "unknown platform"
NODE_CHECK = b"console.log('[]')"


class GuestSlot(Slot):
    """A slot with a kernel of its own in it, which the host counts too and which rests until there is a run."""

    _rests = False

    def _meet(self) -> None:
        super()._meet()
        assert self._group
        self.alarm = self._group.end_together()
        if self.alarm >= 0:
            self._open.callback(os.close, self.alarm)
        self._tell(b"rest")
        self._rests = True

    def arm(self, limits: Limits) -> None:
        if self._rests:
            assert self._group
            self._tell(b"begin")
            self._group.count_anew()
            self._rests = False
        super().arm(limits)

    def _tell(self, message: bytes) -> None:
        assert self.init
        try:
            self.init.send(message)
        except OSError as problem:
            raise SlotLost(f"the slot died before its run: {problem}") from problem

    def _rlimits(self, limits: Limits) -> dict[str, int]:
        soft = limits.memory_mb + OVERHEAD_MB if "memory" not in self._controllers else 0
        return {**super()._rlimits(limits), "processes": limits.processes, "soft_memory_mb": soft}

    def _whole(self, limits: Limits) -> Limits:
        tasks = limits.processes * TASKS_EACH + OVERHEAD_TASKS
        return replace(limits, memory_mb=limits.memory_mb + OVERHEAD_MB, processes=tasks)

    def counted(self) -> Counted:
        counted = super().counted()
        if counted.peak_memory_bytes is None:
            return counted
        return replace(counted, peak_memory_bytes=max(0, counted.peak_memory_bytes - (OVERHEAD_MB << 20)))


class GVisor:
    name = "gvisor"

    def __init__(self, *, held_by: jail.Bubblewrap, find: Callable[[], Path | None], takes_soft_memory: bool) -> None:
        self._jail = held_by
        self._find = find
        self._takes_soft_memory = takes_soft_memory
        self._runsc: Path | None = None
        self._version = ""

    def probe(self) -> Probe:
        """Real sandboxes, as pools make them: a program that tries to get out, and one for every other language."""
        try:
            faults = self._missing() or self._faults()
        except (*jail.CANNOT_START, OSError) as problem:
            faults = [self._in_words(str(problem))]
        return Probe(self.name, ok=not faults, reasons=tuple(faults))

    def _missing(self) -> list[str]:
        self._runsc = self._find()
        if self._runsc is None:
            return ["runsc is neither in RUNSC_PATH nor on PATH"]
        if not os.access(self._runsc, os.X_OK):
            return [f"{self._runsc} is no program: RUNSC_PATH must name gVisor's runsc"]
        self._version = runsc.version(self._runsc)
        if "memory" not in self._jail.groups.controllers and not self._takes_soft_memory:
            return [
                "no memory cgroup can be made here, so its memory would only be sampled; "
                "NTD_SANDBOX_GVISOR_SOFT_MEMORY=1 accepts that"
            ]
        return []

    def _faults(self) -> list[str]:
        deadline = time.monotonic() + jail.CHECK_SECONDS
        faults: list[str] = []
        for language in self.languages():
            zygote = self._zygote(language, None)
            try:
                found = self._self_test(zygote, language, deadline)
            finally:
                zygote.stop()
            faults += [f"{self._known_as()}, {language}: {fault}" for fault in found]
        return faults

    def _self_test(self, zygote: Zygote, language: str, deadline: float) -> list[str]:
        code = jail.CHECK.read_bytes() if language == "python" else NODE_CHECK
        host = os.uname()
        slot = self._slot(zygote)
        left = max(0.1, deadline - time.monotonic())
        return jail.self_test(slot, code, language=language, arguments=(host.release, host.version), seconds=left)

    def _in_words(self, problem: str) -> str:
        if TOO_OLD in problem:
            return (
                f"{self._known_as()} is too old: it has no platform systrap, only slower ones that are kept no longer. "
                "Install a gVisor of 2023 or newer"
            )
        return f"{self._known_as()} did not start a sandbox: {problem}"

    def _known_as(self) -> str:
        return f"{self._runsc} ({self._version or 'version unknown'})"

    def promises(self) -> list[str]:
        return [
            f"Programs have a kernel of their own: gVisor {self._version}, platform systrap, one for each execution.",
            "That kernel reaches the host's by a few filtered calls only, unprivileged and in namespaces of its own.",
            "System calls that reach for namespaces, mounts, tracing, keys, BPF or io_uring are refused inside it too.",
            self._jail.promise_of_network(),
            "Read-only system; writes go to a scratch space of limited size that ends with the execution.",
            "One sandbox serves one execution and is then destroyed.",
        ]

    def limits(self) -> dict[str, str]:
        limits = self._jail.limits()
        own = f"{OVERHEAD_MB} MB beside it are gVisor's own"
        sampled = "soft (everything together, sampled every 25 ms)"
        memory = limits["memory"] if "memory" in self._jail.groups.controllers else sampled
        return {**limits, "memory": f"{memory}; {own}", "processes": "rlimit inside gVisor"}

    def languages(self) -> list[str]:
        return self._jail.languages()

    def preloads_numeric(self, language: str, template: str) -> bool:
        """No: every sandbox would have them for itself, in memory that nothing shares."""
        return False

    def open_pool(self, language: str, template: str, *, network: bool = False, numeric: bool = False) -> Pool:
        libraries = self._jail.libraries(language, template)
        preload = bubblewrap.PRELOADED if language == "python" else ()
        pool = Pool(
            start_zygote=lambda: self._zygote(language, libraries, preload=preload, network=network),
            make_slot=self._slot,
            size=self._jail.size_of(template, network=network),
            room=self._jail.room(language, template),
        )
        pool.open()
        return pool

    def _zygote(
        self, language: str, libraries: Path | None, *, preload: tuple[str, ...] = (), network: bool = False
    ) -> Zygote:
        assert self._runsc, "probe first"
        kind = {"language": language, "libraries": libraries, "network": network}
        binds = ((self._runsc, runsc.PLACE),)
        return self._jail.zygote(preload=(), binds=binds, otherwise=self._beginning(preload, **kind), **kind)

    def _slot(self, zygote: Zygote) -> GuestSlot:
        return self._jail.slot(zygote, kind=GuestSlot)

    def _beginning(self, preload: tuple[str, ...], **kind) -> dict[str, object]:
        """How slots begin: with a kernel, and what that has to know of the program."""
        place, network = self._jail.place, kind["network"]
        # With everything counted by the host, the guest needs no substitute for it.
        guest = bubblewrap.slot_settings(place, preload=preload, soft=False, **kind)
        # Its limit of processes is a soft one, so that a request may ask for more than was put on in advance.
        guest["filter"] = seccomp.build(network=network, fixed_processes=True).hex()
        return {
            "init": "gvisor_init",
            "language": "none but the guest's",
            "nests": True,
            "own_memory_mb": OVERHEAD_MB,
            "command": runsc.command(network=network),
            "spec": runsc.spec(place, network=network),
            "guest": guest,
        }
