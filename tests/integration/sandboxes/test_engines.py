"""The ladder of engines on real daemons: what is asked for, what fails, what comes back."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from sandboxes.daemon import bubblewrap, runsc
from sandboxes.runtimes import RuntimeLost, RuntimeUnavailable
from tests.integration.sandboxes import daemons
from tests.integration.sandboxes.daemons import Daemon, Going, eventually, run

KERNEL = "import os; print(os.uname().version)"
TOO_OLD = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'runsc version 2022' && exit\necho 'unknown platform: systrap' >&2\nexit 128\n"
NO_GVISOR = "#!/bin/sh\necho 'this is something else' >&2\nexit 1\n"


@contextlib.contextmanager
def serving(state: Path, *options: str) -> Iterator[Daemon]:
    state.mkdir(exist_ok=True)
    daemon = Daemon.start(state, "--ready", "1", "--running", "2", "--node", "", *options)
    try:
        yield daemon
    finally:
        daemon.stop()


def program(path: Path, text: str) -> Path:
    """In the same place as before, as an upgrade in place would be."""
    path.write_text(text)
    path.chmod(0o755)
    return path


def end_zygotes(daemon: Daemon) -> None:
    for each in daemon.descendants():
        # The first to die takes the others with it.
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.name() == "bwrap":
                each.kill()


def in_use(daemon: Daemon) -> str | None:
    return daemon.runtime.describe()["engine"]


def works(daemon: Daemon) -> bool:
    try:
        return run(daemon.runtime, "print(1)").stdout == b"1\n"
    except (RuntimeLost, RuntimeUnavailable):
        return False


def reasons(daemon: Daemon) -> str:
    with pytest.raises(RuntimeUnavailable) as refused:
        run(daemon.runtime, "pass")
    return "; ".join(refused.value.reasons)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is no program: RUNSC_PATH must name gVisor's runsc"),
        (TOO_OLD, "(2022) is too old: it has no platform systrap"),
        (NO_GVISOR, "(version unknown) did not start a sandbox"),
    ],
    ids=["missing", "too old", "something else"],
)
def test_gvisor_asked_for_and_not_passing_refuses_with_the_reason(tmp_path, text, said):
    path = tmp_path / "runsc" if text is None else program(tmp_path / "runsc", text)

    with serving(tmp_path / "state", "--engine", "gvisor", "--runsc", str(path)) as daemon:
        told = reasons(daemon)

    assert said in told
    assert "bubblewrap: " not in told


def test_what_the_program_said_is_in_the_reason(tmp_path):
    path = program(tmp_path / "runsc", NO_GVISOR)

    with serving(tmp_path / "state", "--engine", "gvisor", "--runsc", str(path)) as daemon:
        assert "this is something else" in reasons(daemon)


def test_without_a_memory_cgroup_gvisor_waits_for_the_operators_word(tmp_path):
    path = runsc.find() or program(tmp_path / "runsc", TOO_OLD)

    with serving(tmp_path / "state", "--engine", "gvisor", "--runsc", str(path), "--cgroups", "none") as daemon:
        assert "NTD_SANDBOX_GVISOR_SOFT_MEMORY=1 accepts that" in reasons(daemon)


def test_the_ladder_goes_on_below_a_gvisor_that_fails_and_says_why(tmp_path):
    path = program(tmp_path / "runsc", TOO_OLD)

    with serving(tmp_path / "state", "--engine", "auto", "--runsc", str(path)) as daemon:
        daemons.isolating(daemon, "bubblewrap")
        said = daemon.runtime.describe()

    assert [(each["engine"], each["ok"]) for each in said["probes"]] == [("gvisor", False), ("bubblewrap", True)]
    assert "is too old" in said["probes"][0]["reasons"][0]
    assert "passed its self-test when the daemon started" in said["why"]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(said["since"])).total_seconds() < 60


def test_bubblewrap_asked_for_is_not_left_for_gvisor(tmp_path):
    with serving(tmp_path / "state", "--engine", "bubblewrap") as daemon:
        daemons.isolating(daemon, "bubblewrap")

        assert [each["engine"] for each in daemon.runtime.describe()["probes"]] == ["bubblewrap"]


def test_when_its_last_engine_fails_a_daemon_refuses_with_every_reason_until_it_works_again(tmp_path):
    real = bubblewrap.find_bwrap()
    assert real
    path = program(tmp_path / "bwrap", f'#!/bin/sh\nexec {real} "$@"\n')
    nothing = ("--runsc", str(tmp_path / "runsc"))

    with serving(tmp_path / "state", "--engine", "auto", "--bwrap", str(path), *nothing) as daemon:
        daemons.isolating(daemon, "bubblewrap")
        program(path, "#!/bin/sh\necho 'taken away' >&2\nexit 1\n")
        end_zygotes(daemon)

        assert eventually(lambda: in_use(daemon) is None, within_seconds=20)
        told = reasons(daemon)
        assert "gvisor: " in told
        assert "bubblewrap: " in told
        assert "taken away" in told
        assert "bubblewrap failed: python: " in daemon.runtime.describe()["why"]

        program(path, f'#!/bin/sh\nexec {real} "$@"\n')
        assert eventually(lambda: in_use(daemon) == "bubblewrap", within_seconds=30)
        assert eventually(lambda: works(daemon), within_seconds=20)


@pytest.fixture
def own_runsc(tmp_path: Path) -> Path:
    """A gVisor of the test's own, which it may take away."""
    found = runsc.find()
    if found is None:
        why = "runsc is neither in RUNSC_PATH nor on PATH"
        pytest.fail(why) if os.environ.get("NTD_REQUIRE_GVISOR") == "1" else pytest.skip(why)
    (tmp_path / "bin").mkdir()
    return Path(shutil.copy(found, tmp_path / "bin" / "runsc"))


def test_a_gvisor_that_is_taken_away_is_left_for_bubblewrap_and_taken_again_when_it_is_back(tmp_path, own_runsc):
    hidden = own_runsc.with_name("hidden")
    options = ("--engine", "auto", "--gvisor-soft-memory", "--runsc", str(own_runsc), "--probe-again", "1")
    with serving(tmp_path / "state", *options) as daemon:
        daemons.isolating(daemon, "gvisor")
        lost = Going(daemon.runtime)
        own_runsc.rename(hidden)
        end_zygotes(daemon)

        assert isinstance(lost.end(), RuntimeLost)
        assert eventually(lambda: in_use(daemon) == "bubblewrap", within_seconds=30)
        assert eventually(lambda: works(daemon), within_seconds=20)
        assert "is no program" in daemon.runtime.describe()["probes"][0]["reasons"][0]

        beside = Going(daemon.runtime, KERNEL + "\nimport sys, time; sys.stdout.flush(); time.sleep(60)")
        hidden.rename(own_runsc)
        assert eventually(lambda: in_use(daemon) == "gvisor", within_seconds=30)
        assert "passes its self-test again" in daemon.runtime.describe()["why"]

        # What runs goes on where it is; what comes now is gVisor's.
        assert run(daemon.runtime, KERNEL).stdout.decode().strip() != os.uname().version
        assert daemon.runtime.cancel(beside.request.id)
        assert beside.end().cancelled
        assert beside.end().stdout.decode().strip() == os.uname().version
        assert eventually(daemon.is_quiet, within_seconds=30)


@pytest.mark.parametrize("engine", daemons.ENGINES)
def test_programs_find_the_nodes_libraries_on_either_engine(tmp_path, engine):
    place = tmp_path / "libraries" / "prices"
    place.mkdir(parents=True)
    (place / "__init__.py").write_text("LAST = 7\n")

    with serving(tmp_path / "state", *daemons.on(engine), "--python-libraries", str(place.parent)) as daemon:
        runtime = daemons.isolating(daemon, engine).runtime

        assert run(runtime, "import prices; print(prices.LAST)").stdout == b"7\n"
        assert run(runtime, "open('/opt/libraries/prices/__init__.py', 'w')").exit_code == 1
