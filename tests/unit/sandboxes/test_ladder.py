"""The ladder of engines on a clock of the test's own, with engines that pass or fail as they are told."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from sandboxes.daemon import ladder
from sandboxes.daemon.engines import Probe
from sandboxes.daemon.ladder import Ladder


@dataclass
class FakeEngine:
    name: str
    passes: bool = True
    probed: int = 0

    def probe(self) -> Probe:
        self.probed += 1
        return Probe(self.name, ok=self.passes, reasons=() if self.passes else (f"{self.name} is broken",))


@dataclass
class Scene:
    """Two engines, a clock, and the ladder over them."""

    strong: FakeEngine = field(default_factory=lambda: FakeEngine("strong"))
    weak: FakeEngine = field(default_factory=lambda: FakeEngine("weak"))
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.ladder = Ladder([self.strong, self.weak], clock=lambda: self.now)

    @property
    def in_use(self) -> str:
        return self.ladder.choice.engine.name if self.ladder.choice.engine else "none"

    def after(self, seconds: float, failing: str = "") -> bool:
        self.now += seconds
        return self.ladder.look(failing)


def scene(*, strong: bool = True, weak: bool = True) -> Scene:
    return Scene(FakeEngine("strong", strong), FakeEngine("weak", weak))


def test_the_strongest_that_passes_is_taken_and_the_weaker_is_not_asked():
    at = scene()

    assert (at.in_use, at.weak.probed) == ("strong", 0)


def test_with_none_every_reason_is_kept():
    at = scene(strong=False, weak=False)

    assert at.in_use == "none"
    assert at.ladder.choice.reasons() == ["strong: strong is broken", "weak: weak is broken"]


def test_a_failing_pool_moves_it_to_the_next_that_passes():
    at = scene()
    at.strong.passes = False

    moved = at.after(1, failing="python: no kernel")

    assert (moved, at.in_use) == (True, "weak")
    assert "strong failed: python: no kernel" in at.ladder.choice.why
    assert at.ladder.choice.reasons() == ["strong: strong is broken"]


def test_with_nothing_left_it_refuses_with_every_reason():
    at = scene()
    at.strong.passes = at.weak.passes = False

    at.after(1, failing="python: no kernel")

    assert at.in_use == "none"
    assert len(at.ladder.choice.reasons()) == 2


def test_an_engine_that_passes_its_self_test_is_kept_however_its_pools_fail():
    at = scene()

    moved = [at.after(100, failing="python: no room") for _ in range(20)]

    assert (at.in_use, any(moved)) == ("strong", False)


def test_failing_pools_have_it_probed_ever_more_rarely():
    at = scene()
    for _ in range(600):
        at.after(1, failing="python: no room")

    # After 2, 4, 8, 16, 32 seconds, and then once a minute.
    assert at.strong.probed - 1 < 16


def test_a_pool_that_works_again_makes_the_next_failure_a_first_one():
    at = scene()
    for _ in range(600):
        at.after(1, failing="python: no room")
    at.after(1)
    before = at.strong.probed

    at.after(ladder.FAILING_SECONDS[1], failing="python: no room")
    at.after(ladder.FAILING_SECONDS[0] + 1, failing="python: no room")

    assert at.strong.probed == before + 2


def test_it_climbs_back_when_the_stronger_one_passes_again():
    at = scene(strong=False)
    assert at.in_use == "weak"
    since = at.ladder.choice.since
    at.strong.passes = True

    assert not at.after(ladder.WEAKER_SECONDS[0] / 2)
    assert at.after(ladder.WEAKER_SECONDS[0])

    assert at.in_use == "strong"
    assert at.ladder.choice.since > since
    assert at.ladder.choice.why == "It passes its self-test again."


def test_what_stays_broken_is_probed_ever_more_rarely():
    at = scene(strong=False)
    day = 24 * 3600
    for _ in range(day // 10):
        at.after(10)

    assert 48 < at.strong.probed < 70
    assert at.weak.probed == 1


def test_where_everything_is_refused_it_is_looked_at_again_within_a_minute():
    at = scene(strong=False, weak=False)
    for _ in range(3600):
        at.after(1)
    at.weak.passes = True

    assert any(at.after(1) for _ in range(61))
    assert at.in_use == "weak"


def test_what_a_probe_says_now_is_told_without_a_move():
    at = scene(strong=False)
    at.strong.probe = lambda: Probe("strong", ok=False, reasons=("it is gone",))

    at.after(ladder.WEAKER_SECONDS[0])

    assert at.ladder.choice.reasons() == ["strong: it is gone"]


@pytest.mark.parametrize("passes", [True, False])
def test_the_only_engine_asked_for_is_never_left_for_another(passes):
    only = FakeEngine("strong", passes)
    at = Ladder([only], clock=lambda: 1000.0)

    at.look("python: no kernel")

    assert at.choice.engine is (only if passes else None)
