"""The schedule: what the apps declare is sent, and the sweeps of one pace go in one message."""

from __future__ import annotations

from typing import Any

from ntd_site import heartbeats, schedules, tasks
from ntd_site.celery import app


def sent(entry: dict[str, Any]) -> list[str]:
    return entry["kwargs"]["tasks"] if entry["task"] == "ntd_site.tasks.sweep" else [entry["task"]]


def test_every_declared_task_is_sent_once_at_its_own_pace() -> None:
    declared = sorted((entry["task"], entry["schedule"]) for entry in schedules.DECLARED.values())

    found = sorted((task, entry["schedule"]) for entry in schedules.merged().values() for task in sent(entry))

    assert found == declared


def test_an_idle_product_is_sent_at_most_two_messages_a_second() -> None:
    assert sum(1 / entry["schedule"] for entry in schedules.merged().values()) < 2.1


def test_nodes_are_swept_before_anything_that_may_take_long() -> None:
    every_second = next(entry for entry in schedules.merged().values() if entry["schedule"] == 1.0)

    assert sent(every_second)[0] == "scaling.tasks.sweep_nodes"


def test_a_sweep_that_fails_stops_none_of_its_round(monkeypatch: Any) -> None:
    app.loader.import_default_modules()
    ran: list[str] = []
    monkeypatch.setattr(heartbeats, "beat", ran.append)

    tasks.sweep(tasks=["ntd_site.tasks.no_such_task", "ntd_site.tasks.mark_alive"])

    assert ran == ["workers"]
