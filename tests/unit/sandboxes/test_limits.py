"""The rule of limits: what may be asked for, and how a wrong asking is told."""

from __future__ import annotations

import math

import pytest

from sandboxes.limits import RANGES, InvalidLimits, Limits


def test_nothing_asked_for_is_the_usual():
    assert Limits.parse({}) == Limits(cpu=1.0, memory_mb=512, disk_mb=1024, processes=64, output_kb=1024)


def test_limits_survive_a_round_trip_as_a_dict():
    limits = Limits(cpu=0.5, memory_mb=64)

    assert Limits.parse(limits.as_dict()) == limits


@pytest.mark.parametrize("field", RANGES)
def test_both_ends_of_a_range_are_allowed(field):
    low, high = RANGES[field]

    assert getattr(Limits.parse({field: low}), field) == low
    assert getattr(Limits.parse({field: high}), field) == high


@pytest.mark.parametrize("field", RANGES)
@pytest.mark.parametrize("beyond", [-1, 0, 1e12, math.nan, math.inf, -math.inf, True, "1", None, [], {}])
def test_anything_else_is_an_error_that_names_the_field(field, beyond):
    with pytest.raises(InvalidLimits) as refused:
        Limits.parse({field: beyond})

    assert list(refused.value.errors) == [field]
    assert refused.value.errors[field][0].endswith(".")


def test_only_cpu_has_fractions():
    assert Limits.parse({"cpu": 0.25}).cpu == 0.25
    with pytest.raises(InvalidLimits, match="whole number"):
        Limits.parse({"memory_mb": 100.5})


def test_a_whole_float_becomes_an_int():
    assert isinstance(Limits.parse({"memory_mb": 64.0}).memory_mb, int)
    assert isinstance(Limits.parse({"cpu": 2}).cpu, float)


def test_every_wrong_field_is_told_at_once():
    with pytest.raises(InvalidLimits) as refused:
        Limits.parse({"cpu": 99, "gpu": 1, "disk_mb": 10})

    assert set(refused.value.errors) == {"cpu", "gpu"}


@pytest.mark.parametrize(
    ("asked", "disk_mb"), [({}, 496), ({"memory_mb": 2048}, 1024), ({"memory_mb": 16}, 1), ({"disk_mb": 100}, 100)]
)
def test_files_of_a_kept_sandbox_leave_room_in_its_memory(asked, disk_mb):
    assert Limits.parse_kept(asked).disk_mb == disk_mb


def test_a_disk_that_does_not_fit_into_the_memory_is_refused_with_what_fits():
    with pytest.raises(InvalidLimits, match="at most 48") as refused:
        Limits.parse_kept({"memory_mb": 64, "disk_mb": 49})

    assert set(refused.value.errors) == {"disk_mb"}
