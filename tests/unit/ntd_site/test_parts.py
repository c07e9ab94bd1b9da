"""The processes of the product, as the environment shapes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntd_site import embedded, parts

SPOKEN_OF = ("NTD_WORKER_THREADS", "E2B_API_KEY", "E2B_MAX_SANDBOXES")


def threads(tmp_path: Path) -> str:
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
