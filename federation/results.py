"""Finished backtests as a ranked table and drawings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString, mark_safe

from federation.models import Federation, Task
from federation.sample import result, svg, sweep

MOST_TASKS = 500
NARROW, BESIDE, WIDE = 360, 720, 1080  # of a chart on a phone, beside other things, alone
DRAWN = 5


@dataclass(frozen=True, slots=True)
class Ranked:
    """One line of the table."""

    place: int
    task: Task
    found: result.Result
    spark: SafeString

    @property
    def name(self) -> str:
        return name_of(self.found)

    @property
    def strategy(self) -> str:
        return sweep.title(self.found.strategy)


@dataclass(frozen=True, slots=True)
class Table:
    ranked: list[Ranked]
    unreadable: int
    pending: int
    failed: int
    by_luck: float
    chart: SafeString | None

    @property
    def strategies(self) -> int:
        return len({row.found.strategy for row in self.ranked})

    @property
    def agents(self) -> int:
        """How many shared the work."""
        return len({row.task.assigned_to_id for row in self.ranked})


def read(task: Task) -> result.Result | None:
    """What a succeeded backtest says; None when it says nothing that can be believed."""
    if task.state != Task.State.SUCCEEDED or not task.is_backtest:
        return None
    try:
        return result.parse(json.dumps(task.result).encode())
    except result.BadResult:
        return None


def table(federation: Federation, *, width: int = WIDE) -> Table:
    """Best out-of-sample Sharpe first; of two runs of the same job the newer counts. `width` is the drawing's."""
    everything = Task.objects.backtests().filter(federation=federation)
    done = everything.filter(state=Task.State.SUCCEEDED).defer("payload").order_by("-finished_at", "-pk")[:MOST_TASKS]
    readable: dict[str, tuple[Task, result.Result]] = {}
    unreadable = 0
    for task in sorted(done, key=lambda task: (task.finished_at, task.pk)):
        found = read(task)
        if found is None:
            unreadable += 1
        else:
            readable[found.key] = (task, found)
    rows = sweep.rank(found for _, found in readable.values())
    ranked = [Ranked(row.place, readable[row.result.key][0], row.result, _spark(row.result)) for row in rows]
    return Table(
        ranked=ranked,
        unreadable=unreadable,
        pending=everything.live().count(),
        failed=everything.filter(state__in=Task.RETRYABLE).count(),
        by_luck=_by_luck(ranked),
        chart=_best(ranked, width),
    )


def _by_luck(ranked: Sequence[Ranked]) -> float:
    if not ranked:
        return 0.0
    days = max(row.found.out_of_sample.metrics.days for row in ranked)
    return sweep.best_by_luck(tries=len(ranked), years=days / 252)


def _spark(found: result.Result) -> SafeString:
    values = found.out_of_sample.strategy_curve
    if len(values) < 2:
        return mark_safe("")
    every = max(len(values) // 60, 1)
    # svg.py escapes every text it draws.
    return mark_safe(svg.sparkline(values[::every], title=f"{name_of(found)}: growth out of sample"))  # noqa: S308


def _best(ranked: Sequence[Ranked], width: int) -> SafeString | None:
    if not ranked:
        return None
    curves = [_curve(name_of(row.found), row.found.out_of_sample) for row in ranked[:DRAWN]]
    best = ranked[0].found.out_of_sample
    curves.append(svg.Curve("Buy and hold", best.dates, best.benchmark_curve))
    return _drawn(curves, title="The best so far, out of sample, costs included", chart_id="results-chart", width=width)


def curves_of(found: result.Result) -> SafeString:
    """A strategy beside buying and holding."""
    period = found.out_of_sample
    curves = [_curve(name_of(found), period), svg.Curve("Buy and hold", period.dates, period.benchmark_curve)]
    return _drawn(curves, title="Growth out of sample, costs included", chart_id="task-chart", width=BESIDE)


def _curve(name: str, period: result.Period) -> svg.Curve:
    return svg.Curve(name, period.dates, period.strategy_curve)


def _drawn(curves: Iterable[svg.Curve], *, title: str, chart_id: str, width: int) -> SafeString:
    """Twice: a drawing scales with its words, so a phone gets one whose words stay readable."""
    curves = list(curves)
    wide = svg.equity_chart(curves, title=title, chart_id=chart_id, width=width, height=320)
    narrow = svg.equity_chart(curves, title=title, chart_id=f"{chart_id}-narrow", width=NARROW, height=240)
    # svg.py escapes every text it draws.
    return mark_safe(f'<div class="curves"><div>{wide}</div><div>{narrow}</div></div>')  # noqa: S308


def name_of(found: result.Result) -> str:
    """A strategy and what sets it apart."""
    if found.kind == sweep.WALK_FORWARD:
        return f"{sweep.title(found.strategy)}, walk-forward"
    values = (f"{name} {value}" for name, value in found.parameters.items())
    return ", ".join((sweep.title(found.strategy), *values))[:80]
