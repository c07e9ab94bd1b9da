"""The schedule: what the apps declare is sent, and what is swept often goes round in one message."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache

from ntd_site import heartbeats, schedules, tasks
from ntd_site.celery import app

PACES = {"first": 1.0, "second": 2.0, "fifth": 5.0}


def test_every_declared_task_is_sent_once_at_its_own_pace() -> None:
    declared = {entry["task"]: entry["schedule"] for entry in schedules.DECLARED.values()}
    merged = schedules.merged()

    in_rounds = merged.pop("sweeps")["kwargs"]["tasks"]
    alone = {entry["task"]: entry["schedule"] for entry in merged.values()}

    assert in_rounds | alone == declared
    assert not in_rounds.keys() & alone.keys()
    assert len(declared) == len(schedules.DECLARED)


def test_an_idle_product_is_sent_little_more_than_a_message_a_second() -> None:
    assert sum(1 / entry["schedule"] for entry in schedules.merged().values()) < 1.2


def test_nodes_are_swept_before_anything_that_may_take_long() -> None:
    assert next(iter(schedules.merged()["sweeps"]["kwargs"]["tasks"])) == "scaling.tasks.sweep_nodes"


@pytest.mark.parametrize(
    ("before", "now", "due"),
    [
        (0.0, 1000.0, ["first", "second", "fifth"]),
        (1000.0, 1001.0, ["first"]),
        (1000.1, 1000.9, ["first"]),
        (1000.9, 1002.1, ["first", "second"]),
        (1003.9, 1005.0, ["first", "second", "fifth"]),
        (1001.0, 1011.0, ["first", "second", "fifth"]),
    ],
)
def test_a_round_sweeps_what_began_a_window_since_the_last(before: float, now: float, due: list[str]) -> None:
    assert schedules.due(PACES, before=before, now=now) == due


def test_over_a_minute_everything_is_swept_as_often_as_it_asks() -> None:
    times = [1000.0 + 1.01 * number for number in range(61)]
    ran = [
        task
        for before, now in zip(times, times[1:], strict=False)
        for task in schedules.due(PACES, before=before, now=now)
    ]

    assert [ran.count(task) for task in PACES] == [60, 30, 12]


def test_a_sweep_that_fails_stops_none_of_its_round(monkeypatch: Any) -> None:
    app.loader.import_default_modules()
    ran: list[str] = []
    monkeypatch.setattr(heartbeats, "beat", ran.append)
    cache.delete(tasks.LAST_ROUND)

    tasks.sweep(tasks={"ntd_site.tasks.no_such_task": 1.0, "ntd_site.tasks.mark_alive": 5.0})

    assert ran == ["workers"]
