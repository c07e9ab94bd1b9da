"""Pure but for the files that ship (shelf): a task of the type `train` as the arguments of an execution.

{"model": "ridge" | "logistic", "symbols", "horizon": days ahead, "penalty", "train_days", "test_days"}, all optional.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from federation.sample import shelf

MODELS = ("ridge", "logistic")
# What a model weighs, as inside/train.py names it.
FEATURES = ("return_1", "return_5", "return_21", "return_63", "volatility_21", "distance_63")
DEFAULTS: dict[str, Any] = {
    "model": "ridge",
    "symbols": list(shelf.SYMBOLS),
    "horizon": 5,
    "penalty": 0.01,
    "train_days": 756,
    "test_days": 252,
}
# name -> (least, most); whole numbers of days.
DAYS = {"horizon": (1, 63), "train_days": (126, 2520), "test_days": (21, 1260)}
MOST_PENALTY = 1_000_000.0
TIMEOUT_SECONDS = 60
LIMITS = {"cpu": 1.0, "memory_mb": 512, "disk_mb": 64, "processes": 16, "output_kb": 256}


class InvalidTraining(ValueError):
    """Raised for a payload no training can be made of; the text says what to change."""


def parse(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The job with its defaults. Raises InvalidTraining."""
    unknown = sorted(set(payload) - set(DEFAULTS))
    if unknown:
        raise InvalidTraining(f"A training has no field {unknown[0]!r}.")
    job = {**DEFAULTS, **payload}
    if job["model"] not in MODELS:
        raise InvalidTraining(f"The model of a training is one of {', '.join(MODELS)}.")
    for name, (least, most) in DAYS.items():
        if isinstance(job[name], bool) or not isinstance(job[name], int) or not least <= job[name] <= most:
            raise InvalidTraining(f"{name} is a whole number of days from {least} to {most}.")
    _check_penalty(job["penalty"])
    check_symbols(job["symbols"], InvalidTraining)
    return job


def _check_penalty(value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not 0 <= value <= MOST_PENALTY:  # type: ignore[operator]
        raise InvalidTraining(f"The penalty is a number from 0 to {MOST_PENALTY:,.0f}.")


def check_symbols(symbols: object, refusal: type[ValueError]) -> None:
    """Raises `refusal`."""
    given: list[Any] = symbols if isinstance(symbols, list) else []
    known = [symbol for symbol in shelf.SYMBOLS if symbol in given]
    if not given or len(known) < len(given):
        raise refusal(f"The symbols are some of {', '.join(shelf.SYMBOLS)}, each once.")


def label(payload: Mapping[str, Any]) -> str:
    job = parse(payload)
    return f"{job['model'].capitalize()} model of {', '.join(job['symbols'])}, {job['horizon']} days ahead"


def execution_request(job: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "code": shelf.inside("train"),
        "files": {"prices.csv.gz": shelf.prices(), "job.json": json.dumps(job).encode()},
        "language": "python",
        "timeout_seconds": TIMEOUT_SECONDS,
        "limits": dict(LIMITS),
    }
