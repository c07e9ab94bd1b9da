"""Predictions: what may be asked of which model, and the program, in a folder of its own as a sandbox runs it."""

import csv
import gzip
import json
import math
import sys
from uuid import UUID

import numpy as np
import pytest

from federation import inference, training, workloads
from federation.inside import infer, train
from federation.sample import shelf

ID = "01a2194d-ea77-759d-af04-2401b199f592"
SCALES = {"mean": dict.fromkeys(training.FEATURES, 0.0), "spread": dict.fromkeys(training.FEATURES, 1.0)}
WEIGHTS = {"intercept": 0.01, **dict.fromkeys(training.FEATURES, 0.1)}
TRAINED = {"model": "ridge", "horizon": 5, "symbols": ["IBM", "GOOG"], "weights": WEIGHTS, "scales": SCALES}
GOOG_FROM = shelf.days()["GOOG"][inference.PAST_DAYS]


def test_the_features_are_those_of_the_training():
    assert list(training.FEATURES) == train.NAMES
    assert max(train.SPANS) == inference.PAST_DAYS


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ([], "must be an object"),
        ({}, "The model is the id"),
        ({"model": 7}, "The model is the id"),
        ({"model": "mine"}, "The model is the id"),
        ({"model": ID, "symbols": []}, "symbols"),
        ({"model": ID, "symbols": None}, "symbols"),
        ({"model": ID, "symbols": ["TSLA"]}, "symbols"),
        ({"model": ID, "symbols": ["IBM", "IBM"]}, "symbols"),
        ({"model": ID, "day": "yesterday"}, "The day is a date"),
        ({"model": ID, "day": 20130301}, "The day is a date"),
        ({"model": ID, "horizon": 5}, "no field 'horizon'"),
    ],
)
def test_what_nothing_can_be_predicted_of_is_named(payload, words):
    with pytest.raises(workloads.BadPayload, match=words):
        workloads.check(type="infer", payload=payload)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({}, (["IBM", "GOOG"], "2013-03-01")),
        ({"symbols": ["MSFT"]}, (["MSFT"], "2013-03-01")),
        ({"symbols": ["IBM"], "day": "2010-07-02"}, (["IBM"], "2010-07-02")),
        ({"symbols": ["IBM"], "day": "2010-07-05"}, (["IBM"], "2010-07-02")),  # a holiday after a weekend
        ({"day": GOOG_FROM}, (["IBM", "GOOG"], GOOG_FROM)),
        ({"day": "2013-03-02"}, "to 2013-03-01"),
        ({"day": "2001-01-02"}, f"from {GOOG_FROM}"),
        ({"symbols": ["IBM"], "day": "2000-03-02"}, "from 2000-05-"),
    ],
)
def test_symbols_and_day_are_those_asked_for_where_there_are_prices(payload, expected):
    asked, model = inference.parse({"model": ID, **payload}), inference.read_model(TRAINED)
    if isinstance(expected, str):
        with pytest.raises(inference.InvalidInference, match=expected):
            inference.job(asked, model)
    else:
        job = inference.job(asked, model)
        assert (job["symbols"], job["day"]) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"model": "forest"}, {"horizon": True}, {"horizon": None}, {"symbols": ["TSLA"]}, {"weights": None},
        {"weights": {"intercept": 1}}, {"weights": {**WEIGHTS, "return_1": math.inf}}, {"scales": None},
        {"weights": {**WEIGHTS, "return_1": "1"}}, {"scales": {**SCALES, "mean": [1]}}, {"weights": {**WEIGHTS, "x": 1}},
    ],
)  # fmt: skip
def test_a_result_that_is_no_model_is_refused(change):
    with pytest.raises(inference.InvalidInference, match="Train it again"):
        inference.read_model({**TRAINED, **change})
    with pytest.raises(inference.InvalidInference, match="Train it again"):
        inference.read_model(None)


def closes_of(symbol):
    rows = csv.DictReader(gzip.decompress(shelf.prices()).decode().splitlines())
    return [float(row[symbol]) for row in rows if row[symbol]]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a program in a folder as a sandbox does; what it leaves."""

    def in_folder(program, arguments):
        for name, content in arguments["files"].items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        program.main(tmp_path)
        return json.loads((tmp_path / "artifacts" / "result.json").read_text())

    # In a sandbox the folder is where programs import from.
    monkeypatch.syspath_prepend(tmp_path)
    yield in_folder
    sys.modules.pop("train", None)


@pytest.mark.parametrize("kind", training.MODELS)
def test_a_trained_model_predicts_as_it_was_trained(run, kind, capsys):
    trained = run(train, workloads.execution_arguments(type="train", payload={"model": kind}))
    asked = {"model": ID, "symbols": ["IBM", "AAPL"], "day": "2012-06-29"}
    model = inference.read_model(trained)

    found = run(infer, workloads.execution_arguments(type="infer", payload=asked, model=model))

    days, closes = shelf.days()["IBM"], closes_of("IBM")
    today = days.index("2012-06-29")
    # Worked out here, by hand, of the closes up to the day.
    logs = np.log(closes[: today + 1])
    daily = np.diff(logs)
    values = [logs[-1] - logs[-1 - span] for span in (1, 5, 21, 63)] + [daily[-21:].std(), logs[-1] - logs[-63:].mean()]
    score = trained["weights"]["intercept"]
    for name, value in zip(training.FEATURES, values, strict=True):
        scaled = (value - trained["scales"]["mean"][name]) / trained["scales"]["spread"][name]
        score += trained["weights"][name] * scaled
    ibm = found["predictions"][0]
    told = {name: found[name] for name in ("model", "kind", "horizon", "day")}
    assert told == {"model": ID, "kind": kind, "horizon": 5, "day": "2012-06-29"}
    assert [each["symbol"] for each in found["predictions"]] == ["IBM", "AAPL"]
    assert (ibm["close"], ibm["up"]) == (closes[today], score > 0)
    assert ibm["score"] == pytest.approx(score, rel=1e-9)
    if kind == "ridge":
        assert ibm["expected_return"] == pytest.approx(math.exp(score) - 1)
    else:
        assert ibm["chance_up"] == pytest.approx(1 / (1 + math.exp(-score)))
    assert "of 2 up" in capsys.readouterr().out


def test_no_day_after_the_asked_one_changes_a_prediction(run):
    arguments = inference.execution_request(
        inference.parse({"model": ID, "symbols": ["IBM"], "day": "2010-07-02"}), inference.read_model(TRAINED)
    )
    before = run(infer, arguments)
    rows = gzip.decompress(shelf.prices()).decode().splitlines()
    past = [rows[0], *(row for row in rows[1:] if row[:10] <= "2010-07-02")]
    later = [f"{row[:10]},1,1,1,1" for row in rows[1:] if row[:10] > "2010-07-02"]
    arguments["files"]["prices.csv.gz"] = gzip.compress("\n".join([*past, *later]).encode())

    assert run(infer, arguments) == before


@pytest.mark.parametrize(("score", "expected"), [(1e6, 1.0), (-1e6, 0.0), (0.0, 0.5)])
def test_chances_stay_chances(score, expected):
    assert infer.worded("logistic", score)["chance_up"] == pytest.approx(expected, abs=1e-9)
    assert math.isfinite(infer.worded("ridge", score)["expected_return"])


def test_a_label_says_what_is_predicted():
    asked = {"model": ID, "symbols": ["IBM"], "day": "2010-07-02"}
    assert workloads.label(type="infer", payload=asked) == "Prediction of IBM on 2010-07-02"
    assert workloads.label(type="infer", payload={"model": ID}) == "Prediction of the model's symbols"
    assert workloads.label(type="infer", payload={"model": 7}) == "infer"
    assert inference.parse(asked).model == UUID(ID)
