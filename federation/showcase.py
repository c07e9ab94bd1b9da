"""The sample federations: agents of different abilities that backtest real strategies over real prices.

Loading twice adds nothing: each federation is marked with the part of the sample it is, and an account has each once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from billing.models import Account
from federation import coordination, training, workloads
from federation.models import Federation
from federation.sample import sweep
from federation.sample.sweep import Job

RESEARCH = "research"
# What an agent must be able to do for each strategy.
ABILITY = {
    "momentum": "momentum",
    "mean_reversion": "mean-reversion",
    "breakout": "breakout",
    "ma_crossover": "trend",
    "volatility_target": "volatility",
}
Crew = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Part:
    """One federation of the sample."""

    mark: str
    name: str
    topology: str
    strategy: str
    crew: Crew
    jobs: Sequence[Job]
    models: Sequence[str] = ()


DESK: Crew = {
    "chief": (RESEARCH, *ABILITY.values()),
    "momentum-1": ("momentum", RESEARCH),
    "momentum-2": ("momentum",),
    "reversion-1": ("mean-reversion", RESEARCH),
    "reversion-2": ("mean-reversion",),
    "breakout-1": ("breakout", RESEARCH),
    "trend-1": ("trend", "volatility"),
    "trend-2": ("trend", "volatility", RESEARCH),
}
FLOOR: Crew = {
    "anna": ("momentum", "breakout", RESEARCH),
    "bert": ("momentum", RESEARCH),
    "cleo": ("mean-reversion", "breakout", RESEARCH),
    "dara": ("mean-reversion", RESEARCH),
    "emil": ("momentum", "mean-reversion", "breakout"),
}
FLOOR_GRID: dict[str, sweep.Grid] = {
    "momentum": {"lookback": (63, 126), "top": (1,)},
    "mean_reversion": {"window": (20, 40), "entry": (1.0,)},
    "breakout": {"entry": (55,), "leave": (10, 20)},
}


def parts() -> list[Part]:
    strategies = sweep.sample_strategies()
    few = [strategy for strategy in strategies if strategy.name in FLOOR_GRID]
    pair = sweep.jobs(few, FLOOR_GRID, ("AAPL", "MSFT"))
    return [
        Part("desk", "Research desk", "hierarchical", "capability_match", DESK, sweep.sample_jobs(), training.MODELS),
        Part("floor", "Trading floor", "mesh", "least_loaded", FLOOR, pair),
    ]


def load(*, account: Account, now: datetime) -> list[Federation]:
    """Make what is missing; returns the federations made."""
    made = []
    for part in parts():
        if not Federation.objects.present().filter(account=account, sample=part.mark).exists():
            made.append(_make(account, part, now))
    return made


@transaction.atomic
def _make(account: Account, part: Part, now: datetime) -> Federation:
    federation = coordination.create_federation(
        account=account,
        name=part.name,
        topology=part.topology,
        strategy=part.strategy,
        fan_out=3,
        sample=part.mark,
        by="the sample",
        now=now,
    )
    for name, abilities in part.crew.items():
        coordination.add_agent(
            federation=federation, name=name, capabilities=abilities, type="backtester", max_concurrent_tasks=2, now=now
        )
    orders = [order(job) for job in part.jobs]
    orders += [
        coordination.Order(type=workloads.TRAIN, payload={"model": model}, required_capabilities=[RESEARCH])
        for model in part.models
    ]
    coordination.submit_tasks(federation=federation, orders=orders, by="the sample", now=now)
    return federation


def order(job: Job) -> coordination.Order:
    """A backtest as a task; choosing parameters as time goes on is research."""
    required = [ABILITY[job.strategy]] if job.strategy in ABILITY else []
    if job.kind == sweep.WALK_FORWARD:
        required.append(RESEARCH)
    return coordination.Order(type=workloads.BACKTEST, payload=job.as_payload(), required_capabilities=required)
