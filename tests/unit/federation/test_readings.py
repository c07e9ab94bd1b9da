"""What results say to people: of the expected form a reading, of any other never more than facts."""

import pytest

from federation import readings, training

ID = "0198c0de-0000-7000-8000-000000000000"
LINE = {"symbol": "IBM", "close": 175.27, "up": False, "score": -0.32, "chance_up": 0.42}
SAID = {"model": ID, "kind": "logistic", "horizon": 5, "day": "2013-03-01", "predictions": [LINE]}
JUDGED = {"samples": 8643, "hit_rate": 0.526, "always_up_hit_rate": 0.557, "correlation": None, "r_squared": -0.03}
TRAINED = {
    "model": "ridge",
    "horizon": 5,
    "symbols": ["IBM"],
    "out_of_sample": JUDGED,
    "weights": dict.fromkeys(("intercept", *training.FEATURES), 0.5),
}


def test_a_prediction_says_which_way_and_how_sure_it_is():
    said = readings.of(type="infer", result=SAID)

    assert isinstance(said, readings.Prediction)
    (signal,) = said.signals
    assert (said.up, signal.symbol, signal.is_up, round(signal.chance, 2)) == (0, "IBM", False, 0.58)


def test_a_return_is_expected_where_no_chance_is_told():
    line = {name: value for name, value in LINE.items() if name != "chance_up"} | {"expected_return": 0.0031}

    (signal,) = readings.of(type="infer", result={**SAID, "predictions": [line]}).signals

    assert (signal.chance, signal.expected_return) == (None, 0.0031)


def test_a_model_says_how_often_it_was_right():
    said = readings.of(type="train", result=TRAINED)

    assert isinstance(said, readings.Trained)
    assert (said.samples, round(said.edge, 3), said.weights[2]) == (8643, -0.031, ("Return of 21 days", 0.5))


def test_a_program_says_what_it_printed():
    assert readings.of(type="execute", result={"exit_code": 0, "stdout": "42\n"}) == readings.Output("42\n", 0)


@pytest.mark.parametrize(
    ("result", "facts"),
    [
        ({"doubled": 12000, "ok": True, "why": None}, (("doubled", "12,000"), ("ok", "yes"), ("why", "–"))),
        ({"deep": {"er": 1}}, None),
        ({"long": "x" * 501}, None),
        ({}, None),
        ([1], None),
        ("text", None),
        (None, None),
    ],
)
def test_what_lies_flat_reads_as_facts(result, facts):
    assert readings.of(type="price", result=result) == facts


@pytest.mark.parametrize(
    "change",
    [
        {"model": "no id"},
        {"day": 7},
        {"predictions": {}},
        {"predictions": [{**LINE, "chance_up": 2}]},
        {"predictions": [{**LINE, "score": float("nan")}]},
        {"predictions": [7]},
        {"horizon": True},
        {"kind": "x" * 501},
    ],
)
def test_a_forged_prediction_is_no_reading(change):
    assert readings.of(type="infer", result={**SAID, **change}) is None


@pytest.mark.parametrize("change", [{"weights": {}}, {"out_of_sample": None}, {"horizon": 1.5}, {"symbols": 7}])
def test_a_forged_model_is_no_reading(change):
    assert readings.of(type="train", result={**TRAINED, **change}) is None
