"""cgroup v2 on a plain folder that looks like one; v1 is proven on the real kernel by the hostile tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxes.daemon import cgroups
from sandboxes.limits import Limits


@pytest.fixture
def group(tmp_path: Path):
    groups = cgroups.V2Groups(tmp_path, {"memory", "pids", "cpu"})
    made = groups.create("slot")
    files = {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.peak": "4096\n",
        "memory.events": "low 0\noom 3\noom_kill 2\n",
        "pids.max": "max",
        "pids.events": "max 5\n",
        "cpu.max": "max 100000",
        "cpu.stat": "usage_usec 1500\nuser_usec 900\n",
        "cgroup.procs": "",
    }
    for name, content in files.items():
        (tmp_path / "slot" / name).write_text(content)
    return made


def test_limits_are_written_in_the_kernels_words(group, tmp_path):
    group.limit(Limits(cpu=0.5, memory_mb=64, processes=10))

    said = {name: (tmp_path / "slot" / name).read_text() for name in ("memory.max", "pids.max", "cpu.max")}
    assert said["memory.max"] == str(64 << 20)
    assert said["pids.max"].startswith("11")
    assert said["cpu.max"].startswith("50000 100000")


def test_what_the_kernel_counted_is_read(group, tmp_path):
    group.limit(Limits())
    # What the kernel says after that.
    for name, content in {"cpu.stat": "usage_usec 4500\n", "pids.events": "max 10\n"}.items():
        (tmp_path / "slot" / name).write_text(content)
    (tmp_path / "slot" / "memory.events").write_text("low 0\noom 5\noom_kill 4\n")

    counted = group.counted()

    assert counted == cgroups.Counted(cpu_ms=3.0, peak_memory_bytes=4096, memory_kills=2, refused_forks=5)


def test_from_a_mark_on_it_is_counted_anew(group, tmp_path):
    group.limit(Limits())
    (tmp_path / "slot" / "cpu.stat").write_text("usage_usec 9000\n")
    group.count_anew()
    # What the kernel says after that.
    for name, content in {"cpu.stat": "usage_usec 9500\n", "memory.peak": "8192\n"}.items():
        (tmp_path / "slot" / name).write_text(content)
    (tmp_path / "slot" / "memory.events").write_text("oom_kill 3\n")
    (tmp_path / "slot" / "pids.events").write_text("max 5\n")

    counted = group.counted()

    assert counted == cgroups.Counted(cpu_ms=0.5, peak_memory_bytes=8192, memory_kills=1, refused_forks=0)
    assert not group.remove()


def test_without_groups_nothing_is_counted_and_nothing_fails():
    groups = cgroups.detect("ntd-test", mode="none")

    made = groups.create("slot")
    made.limit(Limits())
    made.attach(1)
    made.count_anew()

    assert groups.controllers == frozenset()
    assert made.counted() == cgroups.Counted()
    assert made.remove()


def test_a_group_that_is_gone_already_counts_as_removed(tmp_path):
    assert cgroups.remove_group(tmp_path / "never")


def test_a_group_in_use_is_not_waited_for_without_patience(tmp_path):
    (tmp_path / "busy" / "child").mkdir(parents=True)

    assert cgroups.remove_group(tmp_path / "busy") is False
