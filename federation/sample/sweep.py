"""Pure but for the files that ship (shelf): fan a sweep out into jobs, and rank what comes back.

    Strategy x grid -> one fixed job for each parameter set   "how would just these have done"
                    -> one walk_forward job                   "how would choosing as we went have done"

A job crosses the task queue as its payload (`as_payload`, `parse`) and reaches a sandbox as an
execution request. Results come back as `result.Result`.
"""

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

from federation.sample import result, shelf

Scalar = int | float | str | bool
Parameters = dict[str, Scalar]
Grid = Mapping[str, Sequence[Scalar]]

FIXED, WALK_FORWARD = "fixed", "walk_forward"
MAX_JOBS = 1_000
MAX_SETS = 100
MAX_SOURCE_BYTES = 256 * 1024
TIMEOUT_SECONDS = 60
LIMITS = {"cpu": 1.0, "memory_mb": 512, "disk_mb": 64, "processes": 16, "output_kb": 256}
COSTS = {"commission_bps": 1.0, "slippage_bps": 4.0}
TRAIN_AND_TEST = {"train_days": 756, "test_days": 252}

GRID: dict[str, Grid] = {
    "momentum": {"lookback": (63, 126, 252), "top": (1, 2)},
    "mean_reversion": {"window": (10, 20, 40), "entry": (1.0, 1.5)},
    "breakout": {"entry": (20, 55, 100), "leave": (10, 20)},
    "ma_crossover": {"fast": (10, 20, 50), "slow": (100, 200)},
    "volatility_target": {"window": (20, 60), "target": (0.10, 0.15)},
}


# Where the words of a name that ships would not do.
TITLES = {"ma_crossover": "Moving-average crossover"}


def title(strategy: str) -> str:
    """As people read it: mean_reversion -> Mean reversion. A customer's own name stays as it was given."""
    if strategy not in GRID:
        return strategy
    return TITLES.get(strategy, strategy.replace("_", " ").capitalize())


class InvalidJob(ValueError):
    """Raised for a sweep or a payload no backtest can be made of; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Strategy:
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Job:
    """One backtest. `parameters` belongs to a fixed job, `grid` (the sets to choose from) to a walk-forward."""

    strategy: str
    source: str
    kind: str
    symbols: tuple[str, ...]
    parameters: Parameters = field(default_factory=dict)
    grid: tuple[Parameters, ...] = ()

    @property
    def key(self) -> str:
        """The same job has the same key, in every sweep."""
        chosen = ",".join(f"{name}={value}" for name, value in self.parameters.items())
        return ":".join(filter(None, (self.strategy, self.kind, chosen)))

    @property
    def label(self) -> str:
        if self.kind == WALK_FORWARD:
            return f"{title(self.strategy)}, walk-forward over {len(self.grid)} parameter sets"
        return ", ".join((title(self.strategy), *(f"{name} {value}" for name, value in self.parameters.items())))

    def as_payload(self) -> dict[str, object]:
        return {**asdict(self), "symbols": list(self.symbols), "grid": list(self.grid)}


@dataclass(frozen=True, slots=True)
class Row:
    place: int
    result: result.Result


def sample_strategies() -> list[Strategy]:
    return [Strategy(name, source) for name, source in shelf.strategies().items()]


def sample_jobs() -> list[Job]:
    """The sweep a new installation starts with."""
    return jobs(sample_strategies(), GRID, shelf.SYMBOLS)


def jobs(strategies: Iterable[Strategy], grid: Mapping[str, Grid], symbols: Sequence[str]) -> list[Job]:
    """Every strategy's jobs, dealt in turn, so that the first results already show them all."""
    hands = [_hand(strategy, grid.get(strategy.name, {}), tuple(symbols)) for strategy in strategies]
    dealt = [job for turn in itertools.zip_longest(*hands) for job in turn if job is not None]
    if len(dealt) > MAX_JOBS:
        raise InvalidJob(f"The sweep has {len(dealt)} jobs, more than {MAX_JOBS}; give fewer parameter values.")
    for job in dealt:
        _check(job)
    return dealt


def _hand(strategy: Strategy, grid: Grid, symbols: tuple[str, ...]) -> list[Job]:
    size = math.prod(len(values) for values in grid.values())
    if not 0 < size <= MAX_SETS:
        raise InvalidJob(f"The grid of {strategy.name} has {size} parameter sets; 1 to {MAX_SETS} are possible.")
    sets = parameter_sets(grid)
    name, source = strategy.name, strategy.source
    fixed = [Job(name, source, FIXED, symbols, parameters=parameters) for parameters in sets]
    # The walk-forward is the longest job, so it starts right after the first quick result.
    return [fixed[0], Job(name, source, WALK_FORWARD, symbols, grid=tuple(sets)), *fixed[1:]]


def parameter_sets(grid: Grid) -> list[Parameters]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def parse(payload: Mapping[str, Any]) -> Job:
    """The job in a task's payload, which a customer may have written; a strategy that ships needs no source."""
    unknown = set(payload) - set(Job.__dataclass_fields__)
    if unknown:
        raise InvalidJob(f"A backtest has no field {sorted(unknown)[0]!r}.")
    name = payload.get("strategy")
    if not isinstance(name, str):
        raise InvalidJob("A backtest needs the name of its strategy.")
    symbols = payload.get("symbols", list(shelf.SYMBOLS))
    grid = payload.get("grid", [])
    if not isinstance(symbols, list) or not isinstance(grid, list):
        raise InvalidJob("The symbols and the grid of a backtest are lists.")
    source = payload.get("source") or shelf.strategies().get(name, "")
    job = Job(name, source, payload.get("kind", FIXED), tuple(symbols), payload.get("parameters", {}), tuple(grid))
    _check(job)
    return job


def _check(job: Job) -> None:
    _check_strategy(job)
    if job.kind not in (FIXED, WALK_FORWARD):
        raise InvalidJob(f"The kind of a backtest is {FIXED} or {WALK_FORWARD}, not {job.kind!r}.")
    if job.kind == WALK_FORWARD and not 0 < len(job.grid) <= MAX_SETS:
        raise InvalidJob(f"A walk-forward needs a grid of 1 to {MAX_SETS} parameter sets; it has {len(job.grid)}.")
    for parameters in (job.parameters, *job.grid):
        _check_parameters(parameters)
    unknown = [str(symbol) for symbol in job.symbols if symbol not in shelf.SYMBOLS]
    if unknown or not job.symbols or len(set(job.symbols)) < len(job.symbols):
        raise InvalidJob(f"The symbols are some of {', '.join(shelf.SYMBOLS)}, each once; check {unknown or 'them'}.")


def _check_strategy(job: Job) -> None:
    if not 0 < len(job.strategy) <= 80 or not job.strategy.isprintable():
        raise InvalidJob("A strategy's name has 1 to 80 printable characters.")
    if not isinstance(job.source, str) or not job.source.strip():
        raise InvalidJob(f"{job.strategy} does not ship with the sample, so the job must carry its source.")
    if len(job.source.encode(errors="replace")) > MAX_SOURCE_BYTES:
        raise InvalidJob(f"The source of {job.strategy} is longer than {MAX_SOURCE_BYTES} bytes.")


def _check_parameters(parameters: object) -> None:
    if not isinstance(parameters, dict) or len(parameters) > 20:
        raise InvalidJob("A parameter set is an object of at most 20 names.")
    for name, value in parameters.items():
        if not isinstance(name, str) or not name.isidentifier() or len(name) > 40:
            raise InvalidJob(f"{str(name)[:40]!r} cannot be the name of a parameter.")
        if not isinstance(value, Scalar) or len(str(value)) > 80:
            raise InvalidJob(f"The parameter {name} must be a number, a truth value or a short text.")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidJob(f"The parameter {name} must be a finite number.")


def execution_request(job: Job) -> dict[str, object]:
    """The arguments of `executions.submit` that run this job; the result is its artifact `result.json`."""
    order = {
        "key": job.key,
        "strategy": job.strategy,
        "kind": job.kind,
        "symbols": list(job.symbols),
        "parameters": job.parameters,
        "grid": list(job.grid),
        "costs": COSTS,
        "walk_forward": TRAIN_AND_TEST,
    }
    files = {
        "prices.csv.gz": shelf.prices(),
        "strategy.py": job.source.encode(),
        "job.json": json.dumps(order).encode(),
    }
    return {
        "code": shelf.program(),
        "files": files,
        "language": "python",
        "timeout_seconds": TIMEOUT_SECONDS,
        "limits": dict(LIMITS),
    }


def rank(results: Iterable[result.Result]) -> list[Row]:
    """Best out-of-sample Sharpe first; a job that arrives twice counts once."""
    once = {each.key: each for each in results}
    return [Row(place, each) for place, each in enumerate(sorted(once.values(), key=_order), start=1)]


def _order(each: result.Result) -> tuple[bool, float, float, float, str]:
    """An undefined Sharpe (nothing was ever held) comes last; ties: shallower fall, less trading, name."""
    figures = each.out_of_sample.metrics
    sharpe = figures.sharpe
    return (sharpe is None, -(sharpe or 0.0), -figures.max_drawdown, figures.turnover_per_year, each.key)


def best_by_luck(*, tries: int, years: float) -> float:
    """The Sharpe ratio the best of so many independent, skill-less tries is expected to show.

    Bailey and Lopez de Prado, "The Deflated Sharpe Ratio" (2014): the expected maximum of normal draws.
    Tries over the same symbols are alike, so this overstates the bar somewhat.
    """
    if tries < 2 or years <= 0:
        return 0.0
    euler = 0.5772156649015329
    normal = NormalDist()
    tail = (1 - euler) * normal.inv_cdf(1 - 1 / tries) + euler * normal.inv_cdf(1 - 1 / (tries * math.e))
    return tail / math.sqrt(years)
