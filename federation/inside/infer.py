"""Predicts with a model that train.py trained; sent whole as an execution's code.

    reads   prices.csv.gz, train.py     as it was trained with
            job.json                    {model: its id, symbols, day}
            model.json                  {kind, horizon, weights, mean, spread}
    writes  artifacts/result.json

The prediction for a day uses closes up to that day: the return of the next `horizon` days (ridge), or the chance that
it is above zero (logistic). The features are train.py's own.
"""

import importlib
import json
import math
import sys
from pathlib import Path


def fitted_of(train, model):
    """The model as train.py's `predict` takes it: in the order of its features."""
    weights = [model["weights"][name] for name in ("intercept", *train.NAMES)]
    scales = {key: train.np.array([model[key][name] for name in train.NAMES]) for key in ("mean", "spread")}
    return {"weights": train.np.array(weights), **scales}


def worded(kind, score):
    """What the score says: above 0 is up."""
    if kind == "logistic":
        return {"score": score, "up": score > 0, "chance_up": 1 / (1 + math.exp(-max(min(score, 500), -500)))}
    return {"score": score, "up": score > 0, "expected_return": math.expm1(min(score, 500))}


def main(folder):
    job, model = (json.loads((folder / name).read_text()) for name in ("job.json", "model.json"))
    train = importlib.import_module("train")
    dates, closes = train.read_prices(folder / "prices.csv.gz", job["symbols"])
    row, fitted = dates.index(job["day"]), fitted_of(train, model)
    predictions = []
    for symbol in job["symbols"]:
        today = train.features(closes[symbol])[row : row + 1]
        if train.np.isnan(today).any():
            sys.exit(f"{symbol} has too few prices before {job['day']}.")
        score = float(train.predict(fitted, today)[0])
        if not math.isfinite(score):
            sys.exit(f"The model gives no number for {symbol}.")
        predictions.append({"symbol": symbol, "close": float(closes[symbol][row]), **worded(model["kind"], score)})
    told = {"model": job["model"], "kind": model["kind"], "horizon": model["horizon"], "day": job["day"]}
    (folder / "artifacts").mkdir(exist_ok=True)
    (folder / "artifacts" / "result.json").write_text(json.dumps({**told, "predictions": predictions}))
    up = sum(each["up"] for each in predictions)
    print(f"{model['kind']}: {up} of {len(predictions)} up in the {model['horizon']} days after {job['day']}")


if __name__ == "__main__":
    main(Path.cwd())
