"""Pure. Reads the result.json of a backtest, which a strategy shares a process with and may have forged.

Everything is checked and bounded here, so that pages may show it; what is checked is its form. That the figures are
true is promised only to a customer who does not cheat himself.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

MAX_BYTES = 256 * 1024
MAX_POINTS = 250
MAX_WINDOWS = 60
LARGEST = 1e12
COUNTS = ("days", "trades")
# Undefined when a strategy never held anything.
OPTIONAL = ("sharpe", "hit_rate", "volatility")
FIGURES = ("total_return", "cagr", "max_drawdown", "turnover_per_year", "exposure", "costs_paid", "cost_drag")


class BadResult(ValueError):
    """Raised when a result.json is missing, too large or not in the form a backtest writes."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Shares of the starting capital and yearly rates as fractions: 0.12 is 12 %."""

    first_day: date
    last_day: date
    days: int
    trades: int
    total_return: float
    cagr: float
    volatility: float | None
    sharpe: float | None
    max_drawdown: float
    turnover_per_year: float
    hit_rate: float | None
    exposure: float
    costs_paid: float
    cost_drag: float


@dataclass(frozen=True, slots=True)
class Period:
    """Metrics, the same for buy and hold, and both equity curves (1 = the starting capital)."""

    metrics: Metrics
    benchmark: Metrics
    dates: tuple[date, ...]
    strategy_curve: tuple[float, ...]
    benchmark_curve: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Window:
    train_from: date
    test_from: date
    test_to: date
    parameters: Mapping[str, Any]
    train_sharpe: float | None
    test_sharpe: float | None
    test_return: float


@dataclass(frozen=True, slots=True)
class Result:
    key: str
    strategy: str
    kind: str
    parameters: Mapping[str, Any]
    out_of_sample: Period
    full: Period | None
    windows: tuple[Window, ...]


def parse(content: bytes | None) -> Result:
    """This will turn the artifact into a result; None means that there was no artifact."""
    if content is None:
        raise BadResult("The backtest ended without a result.json.")
    if len(content) > MAX_BYTES:
        raise BadResult(f"The result has {len(content)} bytes, more than the {MAX_BYTES} that are read.")
    try:
        return _result(json.loads(content))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise BadResult(f"The result is not in the form a backtest writes: {str(error)[:200]}.") from error


def _result(values: dict[str, Any]) -> Result:
    if values["kind"] not in ("fixed", "walk_forward"):
        raise ValueError("unknown kind")
    windows = values["windows"]
    if not isinstance(windows, list) or len(windows) > MAX_WINDOWS:
        raise ValueError("too many windows")
    full = values["full"]
    return Result(
        key=_text(values["key"], 4_000),
        strategy=_text(values["strategy"], 80),
        kind=values["kind"],
        parameters=_parameters(values["parameters"] or {}),
        out_of_sample=_period(values["out_of_sample"]),
        full=None if full is None else _period(full),
        windows=tuple(map(_window, windows)),
    )


def _period(values: dict[str, Any]) -> Period:
    curve = values["curve"]
    dates = tuple(map(date.fromisoformat, _list(curve["dates"])))
    if list(dates) != sorted(set(dates)):
        raise ValueError("the dates of a curve must rise")
    return Period(
        metrics=_metrics(values["metrics"]),
        benchmark=_metrics(values["benchmark"]),
        dates=dates,
        strategy_curve=_curve(curve["strategy"], len(dates)),
        benchmark_curve=_curve(curve["benchmark"], len(dates)),
    )


def _metrics(values: dict[str, Any]) -> Metrics:
    figures: dict[str, Any] = {name: _count(values[name]) for name in COUNTS}
    figures |= {name: _number(values[name]) for name in FIGURES}
    figures |= {name: _number_or_none(values[name]) for name in OPTIONAL}
    figures |= {name: date.fromisoformat(values[name]) for name in ("first_day", "last_day")}
    return Metrics(**figures)


def _window(values: dict[str, Any]) -> Window:
    return Window(
        **{name: date.fromisoformat(values[name]) for name in ("train_from", "test_from", "test_to")},
        parameters=_parameters(values["parameters"]),
        train_sharpe=_number_or_none(values["train_sharpe"]),
        test_sharpe=_number_or_none(values["test_sharpe"]),
        test_return=_number(values["test_return"]),
    )


def _list(values: object) -> list[Any]:
    if not isinstance(values, list) or not 0 < len(values) <= MAX_POINTS:
        raise ValueError(f"a curve has 1 to {MAX_POINTS} points")
    return values


def _curve(values: object, length: int) -> tuple[float, ...]:
    curve = tuple(_number(value) for value in _list(values))
    if len(curve) != length or min(curve) <= 0:
        raise ValueError("a curve has one value above zero for each date")
    return curve


def _parameters(values: dict[str, Any]) -> dict[str, Any]:
    if len(values) > 20:
        raise ValueError("too many parameters")
    kept = {_text(name, 40): value for name, value in values.items()}
    if not all(isinstance(value, int | float | str | bool) and len(str(value)) <= 80 for value in kept.values()):
        raise ValueError("a parameter is a number, a truth value or a short text")
    return kept


def _text(value: object, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise ValueError(f"a text of 1 to {longest} characters is missing")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a number is missing")
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise ValueError("a number is out of range")
    return float(value)


def _number_or_none(value: object) -> float | None:
    return None if value is None else _number(value)


def _count(value: object) -> int:
    if _number(value) < 0 or not isinstance(value, int):
        raise ValueError("a count is a whole number from zero")
    return value
