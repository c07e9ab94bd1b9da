"""Trains a small model on daily prices, walking forward; sent whole as an execution's code.

    reads   prices.csv.gz   date, one column a symbol, daily closes; empty = not listed yet
            job.json        {model: ridge | logistic, symbols, horizon, penalty, train_days, test_days}
    writes  artifacts/result.json, artifacts/weights.json

Features of day t use closes up to t: returns over 1, 5, 21 and 63 days, volatility over 21 days, and the distance
from the mean of 63 days. The target is the return of the next `horizon` days (ridge), or whether it is above zero
(logistic). Each test window is judged by weights from the train window before it; days whose target reaches into
the test window are left out of the training, and scales come from the train days alone.
"""

import csv
import gzip
import json
import math
import os
import sys
from pathlib import Path

# One sandbox has one core; threads of the linear algebra library would only count against its process limit.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402 - after the setting above

SPANS = (1, 5, 21, 63)
NAMES = [*(f"return_{span}" for span in SPANS), "volatility_21", "distance_63"]
NEWTON_STEPS = 25


def read_prices(path, symbols):
    """(dates, {symbol: closes}), with NaN before a symbol was listed."""
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["date"] for row in rows], {
        symbol: np.array([float(row[symbol]) if row[symbol] else math.nan for row in rows]) for symbol in symbols
    }


def features(closes):
    """One row a day, NaN where the past is too short."""
    logs = np.log(closes)
    columns = [_lag(logs, span) for span in SPANS]
    daily = columns[0]
    columns.append(_rolling(daily, 21, np.std))
    columns.append(logs - _rolling(logs, 63, np.mean))
    return np.column_stack(columns)


def _lag(logs, span):
    found = np.full(len(logs), math.nan)
    found[span:] = logs[span:] - logs[:-span]
    return found


def _rolling(values, span, of):
    found = np.full(len(values), math.nan)
    found[span - 1 :] = of(np.lib.stride_tricks.sliding_window_view(values, span), axis=1)
    return found


def targets(closes, horizon):
    """The return of the next `horizon` days; NaN at the end."""
    logs = np.log(closes)
    found = np.full(len(logs), math.nan)
    found[:-horizon] = logs[horizon:] - logs[:-horizon]
    return found


def fit_ridge(x, y, penalty):
    """Least squares with a penalty on all weights but the intercept, in closed form."""
    system = x.T @ x + penalty * len(x) * np.diag([0.0, *np.ones(x.shape[1] - 1)])
    return np.linalg.solve(system, x.T @ y)


def fit_logistic(x, y, penalty):
    """Penalised maximum likelihood by Newton's method, with steps halved until the likelihood grows."""
    weights = np.zeros(x.shape[1])
    ridge = penalty * len(x) * np.array([0.0, *np.ones(x.shape[1] - 1)])

    def loss(at):
        margin = x @ at
        return np.sum(np.logaddexp(0, margin) - y * margin) + 0.5 * np.sum(ridge * at * at)

    for _ in range(NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (chance - y) + ridge * weights
        curvature = (x * (chance * (1 - chance))[:, None]).T @ x + np.diag(ridge + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while loss(weights - size * step) > loss(weights) and size > 1e-4:
            size /= 2
        weights = weights - size * step
        if np.max(np.abs(size * step)) < 1e-8:
            break
    return weights


def train(x, y, model, penalty):
    """Weights of standardised features, with the scales they belong to."""
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread == 0] = 1.0
    fit = fit_logistic if model == "logistic" else fit_ridge
    wanted = (y > 0).astype(float) if model == "logistic" else y
    weights = fit(_standard(x, mean, spread), wanted, penalty)
    return {"mean": mean, "spread": spread, "weights": weights}


def _standard(x, mean, spread):
    return np.column_stack([np.ones(len(x)), (x - mean) / spread])


def predict(fitted, x):
    """Above 0 is up: a return, or log odds."""
    return _standard(x, fitted["mean"], fitted["spread"]) @ fitted["weights"]


def windows(days, train_days, test_days):
    """(train from, test from, test to), half-open row numbers, rolled on by the test days."""
    starts = range(0, days - train_days - test_days + 1, test_days)
    return [(start, start + train_days, start + train_days + test_days) for start in starts]


def gather(x, y, first, last):
    """The usable rows of all symbols between two days."""
    rows = [(a[first:last], b[first:last]) for a, b in zip(x, y, strict=True)]
    usable = [(a[ok], b[ok]) for a, b in rows if (ok := ~(np.isnan(a).any(axis=1) | np.isnan(b))).any()]
    if not usable:
        return np.empty((0, len(NAMES))), np.empty(0)
    return np.concatenate([a for a, _ in usable]), np.concatenate([b for _, b in usable])


def judge(predicted, y):
    """How well the sign and the size of the future were told."""
    up = y > 0
    right = (predicted > 0) == up
    residual = float(np.sum((y - predicted) ** 2))
    total = float(np.sum((y - y.mean()) ** 2))
    moved = bool(predicted.std() > 0 and y.std() > 0)
    return {
        "samples": len(y),
        "hit_rate": float(right.mean()),
        "always_up_hit_rate": float(up.mean()),
        "correlation": float(np.corrcoef(predicted, y)[0, 1]) if moved else None,
        "r_squared": 1 - residual / total if total > 0 else None,
    }


def walk(x, y, dates, job):
    """Each test window judged by a model of its own; (windows, all predictions, all outcomes)."""
    found, predictions, outcomes = [], [], []
    for first, middle, last in windows(len(dates), job["train_days"], job["test_days"]):
        train_x, train_y = gather(x, y, first, middle - job["horizon"])
        test_x, test_y = gather(x, y, middle, last)
        if len(train_x) < 2 * len(NAMES) or not len(test_x):
            continue
        predicted = predict(train(train_x, train_y, job["model"], job["penalty"]), test_x)
        found.append({"test_from": dates[middle], "test_to": dates[last - 1], **judge(predicted, test_y)})
        predictions.append(predicted)
        outcomes.append(test_y)
    return found, predictions, outcomes


def main(folder):
    job = json.loads((folder / "job.json").read_text())
    dates, closes = read_prices(folder / "prices.csv.gz", job["symbols"])
    x = [features(closes[symbol]) for symbol in job["symbols"]]
    y = [targets(closes[symbol], job["horizon"]) for symbol in job["symbols"]]
    found, predictions, outcomes = walk(x, y, dates, job)
    if not found:
        sys.exit(
            f"{len(dates)} days of prices are too few for {job['train_days']} to train and {job['test_days']} to test."
        )
    overall = judge(np.concatenate(predictions), np.concatenate(outcomes))
    if job["model"] == "logistic":
        overall["r_squared"] = None  # log odds are no returns
        for window in found:
            window["r_squared"] = None
    last = train(*gather(x, y, len(dates) - job["train_days"], len(dates)), job["model"], job["penalty"])
    weights = {name: float(value) for name, value in zip(["intercept", *NAMES], last["weights"], strict=True)}
    scales = {key: dict(zip(NAMES, map(float, last[key]), strict=True)) for key in ("mean", "spread")}
    result = {
        **job,
        "features": NAMES,
        "out_of_sample": overall,
        "windows": found,
        "weights": weights,
        "scales": scales,
    }
    (folder / "artifacts").mkdir(exist_ok=True)
    (folder / "artifacts" / "weights.json").write_text(
        json.dumps({"model": job["model"], "weights": weights, **scales})
    )
    (folder / "artifacts" / "result.json").write_text(json.dumps(result))
    edge = overall["hit_rate"] - overall["always_up_hit_rate"]
    print(
        f"{job['model']}: {overall['hit_rate']:.1%} of {overall['samples']} days right, {edge:+.1%} against always up"
    )


if __name__ == "__main__":
    main(Path.cwd())
