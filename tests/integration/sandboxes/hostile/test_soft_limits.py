"""Where the machine has no cgroup to give, the same limits end the same programs, if less exactly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.sandboxes import daemons
from tests.integration.sandboxes.daemons import Daemon, eventually, make_request, run
from tests.integration.sandboxes.hostile import test_limits
from tests.integration.sandboxes.hostile.rows import LANGUAGES, Row, both

# What no rlimit counts is refused there, which is an error like any other of a program's own.
REFUSED = {"shares memory with nobody", "fills a file that is only memory", "takes a little of every kind, together too much"}  # fmt: skip
# A child's memory is refused rather than taken, so no child is killed.
OTHERWISE = {"sees a child killed for its memory and ends well"}
TABLES = (test_limits.MEMORY, test_limits.PROCESSES, test_limits.TIME[:4], test_limits.OUTPUT[:1], test_limits.DISK[:3])
ROWS = [row for table in TABLES for row in table if row.says not in REFUSED | OTHERWISE]


@pytest.fixture(scope="module", params=daemons.ENGINES)
def soft(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    options = [*daemons.on(request.param), "--cgroups", "none", "--ready", "1", "--running", "2"]
    daemon = Daemon.start(tmp_path_factory.mktemp("soft"), *options, "--node", daemons.node())
    try:
        yield daemons.isolating(daemon, request.param)
    finally:
        daemon.stop()


@both(ROWS)
def test_the_same_limit_is_named(soft: Daemon, row: Row, language: str):
    if language not in soft.runtime.describe()["languages"]:
        pytest.skip("there is no Node here: put node on PATH or set NTD_TEST_NODE")

    outcome = run(
        soft.runtime,
        row.code(language),
        language=language,
        limits=dict(row.limits),
        timeout_seconds=row.timeout_seconds,
    )

    assert (outcome.breach, outcome.exit_code == 0) == (row.ends["breach"], row.ends.get("exit_code") == 0)
    assert eventually(soft.is_quiet, within_seconds=60)


@pytest.mark.parametrize("language", LANGUAGES)
def test_its_processor_time_is_counted(soft: Daemon, language: str):
    burn = {
        "python": "n = 0\nwhile n < 5_000_000: n += 1",
        "node": "let x = 0; for (let n = 0; n < 5e6; n++) x = (x + n * n) % 1000003; console.log(x)",
    }

    assert run(soft.runtime, burn[language], language=language).cpu_ms >= 50


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_it_uses_is_told_of_all_its_processes_while_it_runs(soft: Daemon, language: str):
    code = {
        "python": "import os, time\nr, w = os.pipe()\nif os.fork() == 0:\n    held = bytearray(b'x') * (40 << 20)\n    os.write(w, b'!')\n    while True: pass\nos.read(r, 1)\ntime.sleep(1.5)",
        "node": "require('child_process').spawn(process.execPath, ['-e', 'const held = Buffer.alloc(40 << 20, 1); require(\\'fs\\').writeSync(1, \\'!\\'); for (;;) held[0]++']).stdout.once('data', () => setTimeout(process.exit, 1500))",
    }
    told = []
    request = make_request(code[language], language=language)

    soft.runtime.run(request, on_started=lambda _: None, on_output=print, on_sample=told.append)

    assert max(each.memory_bytes for each in told) >= 40 << 20
    assert told[-1].cpu_ms > told[0].cpu_ms
