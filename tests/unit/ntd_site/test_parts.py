"""The commands of the product's processes."""

from __future__ import annotations

import pytest

from ntd_site import embedded, parts
from sandboxes.daemon import egress


@pytest.mark.parametrize(
    ("given", "policy"),
    [(None, None), ("", None), ("0", None), ("1", egress.OUTWARD), ("a.example:443", egress.only(["a.example:443"]))],
)
def test_the_sandbox_daemon_is_told_where_sandboxes_may_reach(monkeypatch, tmp_path, given, policy):
    monkeypatch.delenv("NTD_SANDBOX_NETWORK", raising=False)
    if given is not None:
        monkeypatch.setenv("NTD_SANDBOX_NETWORK", given)

    part = parts.sandbox_daemon(embedded.place(tmp_path), "node", parts.Options(), parts.Provided())

    assert egress.parse(part.command[part.command.index("--network") + 1]) == policy


GVISOR_SETTINGS = ("NTD_SANDBOX_ENGINE", "RUNSC_PATH", "NTD_SANDBOX_GVISOR_SOFT_MEMORY")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, ["--engine", "auto"]),
        ({"NTD_SANDBOX_ENGINE": ""}, ["--engine", "auto"]),
        ({"NTD_SANDBOX_ENGINE": "gvisor", "RUNSC_PATH": "/opt/runsc"}, ["--engine", "gvisor", "--runsc", "/opt/runsc"]),
        ({"NTD_SANDBOX_GVISOR_SOFT_MEMORY": "0"}, ["--engine", "auto"]),
        ({"NTD_SANDBOX_GVISOR_SOFT_MEMORY": "on"}, ["--engine", "auto", "--gvisor-soft-memory"]),
    ],
)
def test_the_sandbox_daemon_is_told_which_engine_is_asked_for(monkeypatch, tmp_path, given, told):
    for name in GVISOR_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    command = parts.sandbox_daemon(embedded.place(tmp_path), "node", parts.Options(), parts.Provided()).command

    assert command[command.index("--engine") :] == told


SPOKEN_OF = ("NTD_WORKER_THREADS", "E2B_API_KEY", "E2B_MAX_SANDBOXES")


def threads(tmp_path) -> str:
    part = parts._worker(embedded.place(tmp_path), "node-1", parts.Options())
    return part.command[part.command.index("--concurrency") + 1]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "8"),
        ({"E2B_API_KEY": "e2b_0f"}, "28"),
        ({"E2B_API_KEY": "e2b_0f", "E2B_MAX_SANDBOXES": "100"}, "108"),
        ({"E2B_MAX_SANDBOXES": "100"}, "8"),
        ({"E2B_API_KEY": "e2b_0f", "NTD_WORKER_THREADS": "5"}, "5"),
    ],
)
def test_a_worker_has_a_thread_for_each_execution_it_may_run(tmp_path, monkeypatch, environment, expected):
    for name in SPOKEN_OF:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert threads(tmp_path) == expected
