"""Training: what may be asked, and the program that does it, in a folder of its own as a sandbox runs it."""

import json

import numpy as np
import pytest

from federation import training, workloads
from federation.inside import train


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"model": "forest"}, "one of ridge, logistic"),
        ({"horizon": 0}, "horizon is a whole number of days from 1"),
        ({"horizon": True}, "horizon"),
        ({"train_days": 10_000}, "train_days"),
        ({"test_days": 1.5}, "test_days"),
        ({"penalty": -1}, "penalty"),
        ({"penalty": float("nan")}, "penalty"),
        ({"symbols": []}, "symbols"),
        ({"symbols": ["AAPL", "AAPL"]}, "symbols"),
        ({"symbols": [["AAPL"]]}, "symbols"),
        ({"symbols": "AAPL"}, "symbols"),
        ({"layers": 3}, "no field 'layers'"),
    ],
)
def test_what_no_training_can_be_made_of_is_named(payload, words):
    with pytest.raises(workloads.BadPayload, match=words):
        workloads.execution_arguments(type="train", payload=payload)


def run(tmp_path, **payload):
    arguments = workloads.execution_arguments(type="train", payload=payload)
    for name, content in arguments["files"].items():
        (tmp_path / name).write_bytes(content)
    train.main(tmp_path)
    return json.loads((tmp_path / "artifacts" / "result.json").read_text())


@pytest.mark.parametrize("model", training.MODELS)
def test_it_walks_forward_and_leaves_metrics_and_weights(tmp_path, capsys, model):
    found = run(tmp_path, model=model)

    kept = json.loads((tmp_path / "artifacts" / "weights.json").read_text())
    assert [window["test_from"] for window in found["windows"]] == sorted(w["test_from"] for w in found["windows"])
    assert (len(found["windows"]), found["out_of_sample"]["samples"]) == (9, 8643)
    assert found["out_of_sample"]["samples"] == sum(window["samples"] for window in found["windows"])
    assert 0.45 < found["out_of_sample"]["hit_rate"] < 0.65
    assert set(found["weights"]) == {"intercept", *train.NAMES} == set(kept["weights"])
    assert found["weights"] == kept["weights"]
    assert "days right" in capsys.readouterr().out


def test_the_same_job_gives_the_same_numbers(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    assert run(tmp_path / "a", symbols=["IBM"]) == run(tmp_path / "b", symbols=["IBM"])


def test_too_few_days_is_said(tmp_path):
    with pytest.raises(SystemExit, match="too few for 2520 to train and 1260 to test"):
        run(tmp_path, train_days=2520, test_days=1260)


def test_ridge_is_the_closed_form_and_its_penalty_shrinks():
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(500), rng.normal(size=(500, 2))])
    y = x @ np.array([0.5, 2.0, -1.0]) + rng.normal(scale=0.01, size=500)

    assert train.fit_ridge(x, y, 0.0) == pytest.approx([0.5, 2.0, -1.0], abs=0.01)
    assert np.abs(train.fit_ridge(x, y, 10.0)[1:]).sum() < np.abs(train.fit_ridge(x, y, 0.0)[1:]).sum() / 3


def test_logistic_finds_the_odds_and_survives_what_can_be_told_apart():
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(4000), rng.normal(size=4000)])
    y = (rng.random(4000) < 1 / (1 + np.exp(-(0.3 + 1.5 * x[:, 1])))).astype(float)

    assert train.fit_logistic(x, y, 0.0) == pytest.approx([0.3, 1.5], abs=0.15)
    assert np.isfinite(train.fit_logistic(x, (x[:, 1] > 0).astype(float), 0.01)).all()


def test_later_prices_never_change_earlier_features_or_windows():
    closes = np.cumprod(1 + np.random.default_rng(2).normal(scale=0.01, size=400)) * 100
    changed = closes.copy()
    changed[300:] *= 2

    assert np.array_equal(train.features(closes)[:300], train.features(changed)[:300], equal_nan=True)
    # What is trained on ends a horizon before the test begins.
    assert np.array_equal(train.targets(closes, 5)[:295], train.targets(changed, 5)[:295])


def test_windows_follow_each_other_and_never_pass_the_end():
    assert train.windows(1000, 500, 200) == [(0, 500, 700), (200, 700, 900)]
    assert train.windows(100, 500, 200) == []


def test_a_label_says_what_is_trained():
    assert (
        workloads.label(type="train", payload={"model": "logistic", "symbols": ["IBM"]})
        == "Logistic model of IBM, 5 days ahead"
    )
    assert workloads.label(type="train", payload={"model": 7}) == "train"
