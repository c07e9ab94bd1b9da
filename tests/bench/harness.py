"""How a benchmark is measured: every case in turn, round after round, against a named baseline of the same run.

The machine is small and noisy, so absolute times mean little and ratios much: in each round every case runs
`repeats` times, the order rotates from round to round, and a case's ratio to the baseline is taken round by
round. The report gives the median ratio and its range; JSON keeps every number.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# One call does the work once and returns its seconds (per operation, where a call does many).
Case = Callable[[], float]


@dataclass(frozen=True)
class Bench:
    """A named comparison. `cases` sets everything up and yields the cases, the baseline among them.

    `baselines`: case -> the case it is compared with, where that is not `baseline`.
    `goals`: case -> the highest ratio to its baseline that is still good (lower is faster).
    `fewer`: case -> how often a slow one is repeated in a round instead of `repeats`.
    `most_ms`: case -> the highest p50 that is good on an idle machine, and `most_p95_ms` the highest p95.
    `figures`: what else the cases found out while they ran, as sentences; printed beside the times.
    """

    name: str
    baseline: str
    cases: Callable[[], AbstractContextManager[dict[str, Case]]]
    rounds: int = 7
    repeats: int = 20
    baselines: dict[str, str] = field(default_factory=dict)
    fewer: dict[str, int] = field(default_factory=dict)
    goals: dict[str, float] = field(default_factory=dict)
    most_ms: dict[str, float] = field(default_factory=dict)
    most_p95_ms: dict[str, float] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    note: str = ""
    # What must hold after each round, outside of what is measured.
    after_round: Callable[[], object] | None = None

    def baseline_of(self, case: str) -> str:
        return self.baselines.get(case, self.baseline)


def timed(work: Callable[[], Any]) -> Case:
    """A case that measures one call of `work`."""

    def case() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return case


def measure(bench: Bench) -> dict[str, Any]:
    with bench.cases() as cases:
        for case in cases.values():  # caches, connections and pools are warm in every case
            case()
            case()
        taken: dict[str, list[list[float]]] = {name: [] for name in cases}
        for number in range(bench.rounds):
            for name in _rotated(list(cases), number):
                taken[name].append([cases[name]() for _ in range(bench.fewer.get(name, bench.repeats))])
            if bench.after_round is not None:
                bench.after_round()
    return {
        "bench": bench.name,
        "baseline": bench.baseline,
        "note": bench.note,
        "rounds": bench.rounds,
        "repeats": bench.repeats,
        "cases": {name: _summary(bench, name, taken) for name in taken},
        "figures": dict(bench.figures),
    }


def _rotated(names: list[str], number: int) -> Iterator[str]:
    start = number % len(names)
    return iter(names[start:] + names[:start])


def _summary(bench: Bench, name: str, taken: dict[str, list[list[float]]]) -> dict[str, Any]:
    every = sorted(seconds for one_round in taken[name] for seconds in one_round)
    medians = [statistics.median(one_round) for one_round in taken[name]]
    base = [statistics.median(one_round) for one_round in taken[bench.baseline_of(name)]]
    ratios = [mine / theirs for mine, theirs in zip(medians, base, strict=True)]
    goal = bench.goals.get(name)
    p50_ms, p95_ms = statistics.median(every) * 1e3, every[int(len(every) * 0.95)] * 1e3
    good = [goal is None or statistics.median(ratios) <= goal]
    good += [p50_ms <= bench.most_ms.get(name, p50_ms), p95_ms <= bench.most_p95_ms.get(name, p95_ms)]
    wanted = [] if goal is None else [f"ratio {goal:g}"]
    wanted += [f"p50 {most[name]:g} ms" for most in (bench.most_ms,) if name in most]
    wanted += [f"p95 {most[name]:g} ms" for most in (bench.most_p95_ms,) if name in most]
    return {
        "p50_ms": round(p50_ms, 4),
        "p95_ms": round(p95_ms, 4),
        "baseline": bench.baseline_of(name),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "goal": ", ".join(wanted) or None,
        "reached": all(good) if wanted else None,
    }


def report(result: dict[str, Any]) -> str:
    lines = [f"{result['bench']}  ({result['rounds']} rounds x {result['repeats']}, ratio to {result['baseline']!r})"]
    if result["note"]:
        lines.append(f"  {result['note']}")
    for name, case in result["cases"].items():
        verdict = f"  goal {case['goal']} {'reached' if case['reached'] else 'MISSED'}" if case["goal"] else ""
        low, high = case["ratio_range"]
        of = "" if case["baseline"] == result["baseline"] else f" of {case['baseline']!r}"
        lines.append(
            f"  {name:<34} p50 {case['p50_ms']:>9.3f} ms  p95 {case['p95_ms']:>9.3f} ms"
            f"  x{case['ratio']:<7.3f} ({low:.2f}-{high:.2f}){of}{verdict}"
        )
    return "\n".join([*lines, *(f"  {name}: {said}" for name, said in result["figures"].items())])


def write(results: list[dict[str, Any]], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()}
    path.write_text(json.dumps({"machine": machine, "results": results}, indent=1))
    return path
