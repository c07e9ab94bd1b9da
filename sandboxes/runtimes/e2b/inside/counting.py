"""How the kernel of the virtual machine counts and bounds one program: cgroup v2, or softly where it has none.

Standard library only. A Group is made before anything becomes read-only, and read after everything is dead.
"""

import os
import resource

ROOT = "/sys/fs/cgroup"
NAME = "ntd"
NEEDED = ("memory", "pids", "cpu")
PERIOD_US = 100_000


class Group:
    """One cgroup v2 for the program and all that it starts."""

    soft = False

    def __init__(self, root: str, order: dict) -> None:
        """Raises OSError where there is no cgroup v2 with the three controllers to be had."""
        with open(f"{root}/cgroup.controllers") as offered:
            if not set(NEEDED) <= set(offered.read().split()):
                raise OSError("cgroup v2 offers not all of " + ", ".join(NEEDED))
        _write(f"{root}/cgroup.subtree_control", " ".join(f"+{name}" for name in NEEDED))
        self.path = f"{root}/{NAME}"
        os.makedirs(self.path, exist_ok=True)
        self.sampled_peak = 0
        self._limit(order)

    def _limit(self, order: dict) -> None:
        _write(f"{self.path}/memory.max", str(order["memory_mb"] << 20))
        _write(f"{self.path}/memory.oom.group", "1")
        if os.path.exists(f"{self.path}/memory.swap.max"):
            _write(f"{self.path}/memory.swap.max", "0")
        _write(f"{self.path}/pids.max", str(order["processes"]))
        _write(f"{self.path}/cpu.max", f"{round(order['cpu'] * PERIOD_US)} {PERIOD_US}")

    def open_door(self) -> int:
        """A descriptor through which a process puts itself in."""
        return os.open(f"{self.path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def is_over(self) -> bool:
        """The kernel ends a program that needs too much; only the peak may have to be sampled, before Linux 5.19."""
        self.sampled_peak = max(self.sampled_peak, _number(f"{self.path}/memory.current"))
        return False

    def counted(self) -> dict:
        peak = f"{self.path}/memory.peak"
        return {
            "cpu_ms": _field(f"{self.path}/cpu.stat", "usage_usec") / 1000,
            "memory_bytes": _number(f"{self.path}/memory.current"),
            "peak_memory_bytes": _number(peak) if os.path.exists(peak) else self.sampled_peak,
            "memory_kills": _field(f"{self.path}/memory.events", "oom_kill"),
            "refused_forks": _field(f"{self.path}/pids.events", "max"),
            "soft_memory_exceeded": False,
        }


class Soft:
    """Without cgroups: what all processes hold is sampled, CPU time is what each used, buried or living."""

    soft = True

    def __init__(self, order: dict) -> None:
        self.most = order["memory_mb"] << 20
        self.held = self.peak = 0
        self.exceeded = False

    def open_door(self) -> int:
        return -1

    def is_over(self) -> bool:
        held = sum(_private_bytes(name) for name in os.listdir("/proc") if name.isdigit() and name != "1")
        scratch = os.statvfs("/workspace")
        self.held = held + (scratch.f_blocks - scratch.f_bfree) * scratch.f_frsize
        self.peak = max(self.peak, self.held)
        self.exceeded = self.exceeded or self.peak > self.most
        return self.exceeded

    def counted(self) -> dict:
        buried = resource.getrusage(resource.RUSAGE_CHILDREN)
        living = sum(_cpu_seconds(name) for name in os.listdir("/proc") if name.isdigit() and name != "1")
        return {
            "cpu_ms": (buried.ru_utime + buried.ru_stime + living) * 1000,
            "memory_bytes": self.held,
            "peak_memory_bytes": max(self.peak, buried.ru_maxrss << 10),
            "memory_kills": 0,
            "refused_forks": 0,
            "soft_memory_exceeded": self.exceeded,
        }


def choose(order: dict, root: str = ROOT) -> "Group | Soft":
    """The way this machine can keep the ordered limits, with the limits set."""
    try:
        return Group(root, order)
    except OSError:
        return Soft(order)


def machine() -> dict:
    """What the virtual machine has."""
    with open("/proc/meminfo") as facts:
        total = next(int(line.split()[1]) for line in facts if line.startswith("MemTotal:"))
    return {"cpus": os.cpu_count() or 1, "memory_mb": total >> 10}


def _private_bytes(pid: str) -> int:
    """Anonymous pages of one process, each shared page counted as its share."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            return next((int(line.split()[1]) << 10 for line in rollup if line.startswith("Pss_Anon:")), 0)
    except OSError:
        return 0


def _cpu_seconds(pid: str) -> float:
    """What one process used so far, with those that it has buried itself."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            # The name in parentheses may hold anything; the numbers come after it.
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(each) for each in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _number(path: str) -> int:
    with open(path) as file:
        return int(file.read())


def _field(path: str, name: str) -> int:
    with open(path) as file:
        return next((int(line.split()[1]) for line in file if line.split()[0] == name), 0)
