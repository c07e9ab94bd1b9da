"""Pure. What the result of a task says to people, as far as its form is known; all of it stays to be seen as JSON.

infer    one line a symbol: up or down, by how much or how likely
train    how often the model was right on days it had not seen
execute  what the program printed
other    a flat object is a list of facts

A result may come from a remote agent, so what is not of the expected form is no reading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from federation import training

MOST_LINES = 50
MOST_TEXT = 500
LONGEST_OUTPUT = 20_000


@dataclass(frozen=True, slots=True)
class Signal:
    """One symbol: a chance (logistic) or an expected return (ridge), as fractions."""

    symbol: str
    close: float
    is_up: bool
    score: float
    chance_up: float | None
    expected_return: float | None

    @property
    def chance(self) -> float | None:
        """Of what is signalled: how sure the model is."""
        return self.chance_up if self.chance_up is None or self.is_up else 1 - self.chance_up


@dataclass(frozen=True, slots=True)
class Prediction:
    model: UUID
    kind: str
    horizon: int
    day: date
    signals: tuple[Signal, ...]

    @property
    def up(self) -> int:
        return sum(signal.is_up for signal in self.signals)


@dataclass(frozen=True, slots=True)
class Trained:
    """Judged on the windows it was not trained on; rates are fractions."""

    model: str
    horizon: int
    symbols: tuple[str, ...]
    samples: int
    hit_rate: float
    always_up: float
    correlation: float | None
    r_squared: float | None
    weights: tuple[tuple[str, float], ...]

    @property
    def edge(self) -> float:
        return self.hit_rate - self.always_up


@dataclass(frozen=True, slots=True)
class Output:
    stdout: str
    exit_code: int | None


Facts = tuple[tuple[str, str], ...]
Reading = Prediction | Trained | Output | Facts


class _Odd(ValueError):
    """The result is not of the form that its type has."""


def of(*, type: str, result: Any) -> Reading | None:
    """What a result says; None when there is nothing that reads better than its JSON."""
    if not isinstance(result, dict):
        return None
    try:
        if type == "infer":
            return _prediction(result)
        return _trained(result) if type == "train" else _output(result) or _facts(result)
    except (ValueError, KeyError, TypeError):
        return _facts(result)


def _prediction(result: Mapping[str, Any]) -> Prediction:
    lines = result["predictions"][:MOST_LINES]
    return Prediction(
        model=UUID(_text(result["model"])),
        kind=_text(result["kind"]),
        horizon=_whole(result["horizon"]),
        day=date.fromisoformat(result["day"]),
        signals=tuple(_signal(line) for line in lines),
    )


def _signal(line: Mapping[str, Any]) -> Signal:
    return Signal(
        symbol=_text(line["symbol"]),
        close=_number(line["close"]),
        is_up=line["up"] is True,
        score=_number(line["score"]),
        chance_up=_share(line.get("chance_up")),
        expected_return=None if line.get("expected_return") is None else _number(line["expected_return"]),
    )


def _trained(result: Mapping[str, Any]) -> Trained:
    judged, weights = result["out_of_sample"], result["weights"]
    return Trained(
        model=_text(result["model"]),
        horizon=_whole(result["horizon"]),
        symbols=tuple(_text(symbol) for symbol in result["symbols"][:MOST_LINES]),
        samples=_whole(judged["samples"]),
        hit_rate=_number(judged["hit_rate"]),
        always_up=_number(judged["always_up_hit_rate"]),
        correlation=_maybe(judged.get("correlation")),
        r_squared=_maybe(judged.get("r_squared")),
        weights=tuple((_feature(name), _number(weights[name])) for name in training.FEATURES),
    )


def _feature(name: str) -> str:
    """return_21 -> Return of 21 days"""
    what, _, days = name.partition("_")
    return f"{what.capitalize()} {'over' if what == 'distance' else 'of'} {days} day{'s' if days != '1' else ''}"


def _output(result: Mapping[str, Any]) -> Output | None:
    if set(result) != {"exit_code", "stdout"} or not isinstance(result["stdout"], str):
        return None
    code = result["exit_code"]
    return Output(result["stdout"][:LONGEST_OUTPUT], code if isinstance(code, int) else None)


def _facts(result: Mapping[str, Any]) -> Facts | None:
    """Words and numbers side by side; None where something lies deeper."""
    if not result or len(result) > MOST_LINES:
        return None
    if not all(_is_short(value) for value in result.values()):
        return None
    return tuple((name, _worded(value)) for name, value in result.items())


def _is_short(value: object) -> bool:
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and len(value) <= MOST_TEXT)


def _worded(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise _Odd
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Odd
    return float(value)


def _maybe(value: object) -> float | None:
    return None if value is None else _number(value)


def _share(value: object) -> float | None:
    found = _maybe(value)
    if found is not None and not 0 <= found <= 1:
        raise _Odd
    return found


def _whole(value: object) -> int:
    number = _number(value)
    if number != int(number):
        raise _Odd
    return int(number)
