"""cgroup v2 as the guest uses it, on a plain folder that looks like one; soft counting runs in the contract tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from sandboxes.runtimes import e2b

SOURCE = Path(e2b.__file__).parent / "inside" / "counting.py"
ORDER = {"cpu": 0.5, "memory_mb": 64, "processes": 10}


@pytest.fixture
def counting():
    found = importlib.util.spec_from_file_location("counting", SOURCE)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    group = tmp_path / "ntd"
    group.mkdir()
    files = {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.oom.group": "0",
        "memory.current": "5000\n",
        "memory.peak": "7000\n",
        "memory.events": "low 0\noom 3\noom_kill 2\n",
        "pids.max": "max",
        "pids.events": "max 5\n",
        "cpu.max": "max 100000",
        "cpu.stat": "usage_usec 4500\nuser_usec 900\n",
        "cgroup.procs": "",
    }
    for name, content in files.items():
        (group / name).write_text(content)
    return tmp_path


def said(root: Path, name: str) -> str:
    return (root / "ntd" / name).read_text()


def test_the_controllers_are_asked_for_and_the_limits_written(counting, root):
    counting.Group(str(root), ORDER)

    assert (root / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert said(root, "memory.max").startswith(str(64 << 20))
    assert said(root, "memory.swap.max").startswith("0")
    assert said(root, "memory.oom.group") == "1"
    assert said(root, "pids.max").startswith("10")
    assert said(root, "cpu.max").startswith("50000 100000")


def test_what_the_kernel_counted_is_read(counting, root):
    assert counting.Group(str(root), ORDER).counted() == {
        "cpu_ms": 4.5,
        "memory_bytes": 5000,
        "peak_memory_bytes": 7000,
        "memory_kills": 2,
        "refused_forks": 5,
        "soft_memory_exceeded": False,
    }


def test_before_linux_5_19_the_peak_is_what_was_sampled(counting, root):
    (root / "ntd" / "memory.peak").unlink()
    group = counting.Group(str(root), ORDER)

    group.is_over()
    (root / "ntd" / "memory.current").write_text("10\n")
    group.is_over()

    assert group.counted()["peak_memory_bytes"] == 5000


def test_where_a_controller_is_missing_it_is_no_group(counting, root):
    (root / "cgroup.controllers").write_text("cpu io\n")

    with pytest.raises(OSError, match="not all of memory, pids, cpu"):
        counting.Group(str(root), ORDER)


def test_without_cgroups_it_is_counted_softly(counting, root, tmp_path):
    assert counting.choose(ORDER, str(tmp_path / "none")).soft
    assert not counting.choose(ORDER, str(root)).soft


def test_what_the_machine_has_is_the_kernels_word(counting):
    machine = counting.machine()

    assert machine["cpus"] >= 1
    assert machine["memory_mb"] > 64
