"""Pure but for the files that ship (shelf): a task of the type `infer` as the arguments of an execution.

{"model": the id of a `train` task of the federation that succeeded, "symbols", "day"}; without symbols those that
it was trained on, without a day the last one there are prices of. A day without trading stands for the last before it.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from federation import training
from federation.sample import shelf

FIELDS = ("model", "symbols", "day")
# Days of prices that the features of a day look back on.
PAST_DAYS = 63
TIMEOUT_SECONDS = 30
LIMITS = {"cpu": 1.0, "memory_mb": 256, "disk_mb": 16, "processes": 16, "output_kb": 64}


class InvalidInference(ValueError):
    """Raised for what nothing can be predicted of; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a payload asks for. No symbols: the model's; no day: the last."""

    model: UUID
    symbols: tuple[str, ...]
    day: str


@dataclass(frozen=True, slots=True)
class Model:
    """What a training left: weights of standardised features, and the scales they belong to."""

    kind: str
    horizon: int
    symbols: tuple[str, ...]
    weights: Mapping[str, float]
    mean: Mapping[str, float]
    spread: Mapping[str, float]


def parse(payload: Mapping[str, Any]) -> Asked:
    """Raises InvalidInference."""
    unknown = sorted(set(payload) - set(FIELDS))
    if unknown:
        raise InvalidInference(f"An inference has no field {unknown[0]!r}.")
    symbols = payload.get("symbols", [])
    if "symbols" in payload:
        training.check_symbols(symbols, InvalidInference)
    return Asked(_id(payload.get("model")), tuple(symbols), _day(payload.get("day")))


def _id(value: object) -> UUID:
    try:
        return UUID(value if isinstance(value, str) else "")
    except ValueError:
        raise InvalidInference("The model is the id of a train task that succeeded.") from None


def _day(value: object) -> str:
    if value is None:
        return ""
    try:
        return date.fromisoformat(value if isinstance(value, str) else "").isoformat()
    except ValueError:
        raise InvalidInference("The day is a date as 2013-03-01.") from None


def read_model(result: object) -> Model:
    """The model in the result of a training, which may come from a remote agent. Raises InvalidInference."""
    found: Mapping[str, Any] = result if isinstance(result, dict) else {}
    scales = found.get("scales")
    scales = scales if isinstance(scales, dict) else {}
    kind, horizon, symbols = found.get("model"), found.get("horizon"), found.get("symbols")
    try:
        if kind not in training.MODELS or isinstance(horizon, bool) or not isinstance(horizon, int):
            raise InvalidInference
        training.check_symbols(symbols, InvalidInference)
        return Model(
            kind=kind,
            horizon=horizon,
            symbols=tuple(symbols or ()),
            weights=_numbers(found.get("weights"), ("intercept", *training.FEATURES)),
            mean=_numbers(scales.get("mean"), training.FEATURES),
            spread=_numbers(scales.get("spread"), training.FEATURES),
        )
    except InvalidInference:
        raise InvalidInference("The result of that task is no model with its scales. Train it again.") from None


def _numbers(given: object, names: Sequence[str]) -> dict[str, float]:
    values = given if isinstance(given, dict) else {}
    numbers = {name: value for name, value in values.items() if _is_number(value)}
    if set(values) != set(names) or len(numbers) < len(names):
        raise InvalidInference
    return {name: float(numbers[name]) for name in names}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def job(asked: Asked, model: Model) -> dict[str, Any]:
    """Which symbols and which day of trading, both of which have prices enough. Raises InvalidInference."""
    symbols = asked.symbols or model.symbols
    days = {symbol: shelf.days()[symbol] for symbol in symbols}
    first, last = max(each[PAST_DAYS] for each in days.values()), min(each[-1] for each in days.values())
    day = asked.day or last
    if not first <= day <= last:
        raise InvalidInference(f"The day is from {first} to {last} for {', '.join(symbols)}.")
    some = days[symbols[0]]
    return {"model": str(asked.model), "symbols": list(symbols), "day": some[bisect_right(some, day) - 1]}


def label(payload: Mapping[str, Any]) -> str:
    asked = parse(payload)
    of, on = ", ".join(asked.symbols) or "the model's symbols", f" on {asked.day}" if asked.day else ""
    return f"Prediction of {of}{on}"


def execution_request(asked: Asked, model: Model) -> dict[str, Any]:
    fitted = {"kind": model.kind, "horizon": model.horizon, "weights": model.weights}
    fitted |= {"mean": model.mean, "spread": model.spread}
    return {
        "code": shelf.inside("infer"),
        "files": {
            "prices.csv.gz": shelf.prices(),
            "train.py": shelf.inside("train"),
            "job.json": json.dumps(job(asked, model)).encode(),
            "model.json": json.dumps(fitted).encode(),
        },
        "language": "python",
        "timeout_seconds": TIMEOUT_SECONDS,
        "limits": dict(LIMITS),
    }
