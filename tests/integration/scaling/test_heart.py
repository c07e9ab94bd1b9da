"""The heart: a real machine measured, a thread that beats, and what a broken beat does."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from django.db import DatabaseError, connection

from scaling import heart, probes
from scaling.models import Node


@pytest.mark.django_db
def test_a_probe_reports_this_machine(settings: Any) -> None:
    settings.NODE_NAME = "here"
    probe = probes.Probe("web", in_flight=lambda: 2)

    probe.report()
    probe.report()

    node = Node.objects.get(name="here")
    assert (node.status, node.role, node.in_flight) == ("healthy", settings.FEDERATION_ROLE, 2)
    assert all(0 <= share <= 1 for share in (node.cpu, node.memory, node.disk))
    assert node.latency_ms > 0
    line = node.metadata["processes"]["web"]
    assert line["pid"] == os.getpid()
    assert line["rss"] > 1_000_000
    assert node.metadata["cores"] >= 1


@pytest.mark.django_db
def test_processes_without_a_heart_are_told_by_another_until_they_end(settings: Any) -> None:
    settings.NODE_NAME = "here"
    others = {"sandboxes": os.getppid()}
    probe = probes.Probe("worker", error_rate=lambda: 0.04, others=lambda: others)

    probe.report()
    told = Node.objects.get(name="here")
    others["sandboxes"] = 2**22 + 1  # no such process
    probe.report()

    line = told.metadata["processes"]["sandboxes"]
    assert (line["pid"], told.error_rate) == (os.getppid(), 0.04)
    assert line["rss"] > 0
    after = Node.objects.get(name="here").metadata["processes"]
    assert after["sandboxes"] == line
    assert after["worker"]["seen"] > line["seen"]


@pytest.mark.django_db
def test_what_an_app_above_tells_is_kept_by_its_word_until_it_tells_again(settings: Any) -> None:
    settings.NODE_NAME = "here"
    tells: dict[str, dict[str, Any]] = {"sandboxes": {"engine": "one"}}
    probe = probes.Probe("worker", tells=lambda: tells)

    probe.report()
    tells = {"weather": {"sky": "blue"}}
    probe.report()
    probes.Probe("web").report()

    told = Node.objects.get(name="here").metadata["told"]
    assert told["sandboxes"]["engine"] == "one"
    assert told["weather"]["sky"] == "blue"
    assert told["weather"]["seen"] > told["sandboxes"]["seen"]


def test_a_node_without_a_given_name_has_the_machines(settings: Any) -> None:
    settings.NODE_NAME = ""

    assert probes.node_name() == os.uname().nodename


def test_a_burst_at_the_start_is_not_taken_for_a_busy_machine(tmp_path: Any) -> None:
    machine = probes.Machine(tmp_path)

    assert machine.read().cpu < 0.1


@pytest.mark.django_db(transaction=True)
def test_a_started_heart_beats_and_stops(settings: Any) -> None:
    settings.NODE_NAME = "beating"
    first = heart.start("worker")
    again = heart.start("worker")
    until = time.monotonic() + 5
    while not Node.objects.filter(name="beating").exists() and time.monotonic() < until:
        time.sleep(0.01)

    heart.stop()

    assert first is again
    assert Node.objects.get(name="beating").metadata["processes"]["worker"]["pid"] == os.getpid()
    assert heart._started == {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [DatabaseError("away"), ValueError("odd")])
def test_a_beat_that_fails_is_missed_and_the_next_one_is_tried(error: Exception, caplog: Any) -> None:
    class Failing:
        process = "web"
        tries = 0

        def report(self) -> None:
            self.tries += 1
            raise error

    probe = Failing()
    beating = heart.Heart(probe)  # type: ignore[arg-type]

    beating.beat()
    beating.beat()

    assert probe.tries == 2
    assert "web" in caplog.text
    connection.close()


class Counting:
    process = "web"

    def __init__(self) -> None:
        self.beats = 0

    def report(self) -> None:
        self.beats += 1


def test_a_processis_silent_while_another_beats_for_the_machine(settings: Any, tmp_path: Any) -> None:
    settings.NTD_HOME = tmp_path
    first, second = (heart.Heart(Counting()) for _ in range(2))  # type: ignore[arg-type]

    assert second.is_silent()
    first.beat()

    assert not second.is_silent()


def test_a_process_beats_when_the_others_have_stopped(settings: Any, tmp_path: Any) -> None:
    settings.NTD_HOME = tmp_path
    first, second = (heart.Heart(Counting()) for _ in range(2))  # type: ignore[arg-type]
    first.beat()
    [beaten] = tmp_path.iterdir()

    os.utime(beaten, times=(time.time() - heart.BEAT_SECONDS,) * 2)

    assert second.is_silent()


def test_a_beat_that_fails_counts_for_nobody(settings: Any, tmp_path: Any) -> None:
    settings.NTD_HOME = tmp_path
    probe = Counting()
    probe.report = lambda: 1 / 0  # type: ignore[method-assign]

    heart.Heart(probe).beat()  # type: ignore[arg-type]

    assert list(tmp_path.iterdir()) == []
