"""A result.json may be forged; whatever passes is bounded and well formed."""

import contextlib
import copy
import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.sample import result
from federation.sample.result import BadResult

METRICS = {
    "first_day": "2020-01-01",
    "last_day": "2020-01-03",
    **dict.fromkeys(result.COUNTS, 3),
    **dict.fromkeys(result.FIGURES + result.OPTIONAL, 0.5),
}
PERIOD = {
    "metrics": METRICS,
    "benchmark": METRICS,
    "curve": {"dates": ["2020-01-01", "2020-01-02"], "strategy": [1.0, 1.1], "benchmark": [1, 1.2]},
}
WINDOW = {
    "train_from": "2019-01-01",
    "test_from": "2020-01-01",
    "test_to": "2020-01-03",
    "parameters": {"a": 1},
    "train_sharpe": None,
    "test_sharpe": 1.0,
    "test_return": 0.1,
}
GOOD = {
    "version": 1,
    "key": "k",
    "strategy": "mine",
    "kind": "fixed",
    "parameters": {"a": 1, "b": "x"},
    "out_of_sample": PERIOD,
    "full": None,
    "windows": [WINDOW],
}


def changed(path, value):
    forged = copy.deepcopy(GOOD)
    place = forged
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return json.dumps(forged).encode()


def test_a_true_result_is_read():
    read = result.parse(json.dumps(GOOD).encode())

    assert (read.key, read.kind, read.full) == ("k", "fixed", None)
    assert read.out_of_sample.dates == (date(2020, 1, 1), date(2020, 1, 2))
    assert read.out_of_sample.strategy_curve == (1.0, 1.1)
    assert read.out_of_sample.metrics.trades == 3
    assert read.windows[0].train_sharpe is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kind", "other"),
        ("key", ""),
        ("key", "x" * 5000),
        ("strategy", 3),
        ("parameters", {"a": {"b": 1}}),
        ("parameters", {str(number): 1 for number in range(21)}),
        ("windows", [WINDOW] * 61),
        ("windows", {}),
        ("windows.0.test_from", "yesterday"),
        ("windows.0.test_return", None),
        ("full", 3),
        ("out_of_sample", None),
        ("out_of_sample.metrics.cagr", "much"),
        ("out_of_sample.metrics.cagr", True),
        ("out_of_sample.metrics.cagr", float("inf")),
        ("out_of_sample.metrics.cagr", 1e300),
        ("out_of_sample.metrics.trades", 1.5),
        ("out_of_sample.metrics.trades", -1),
        ("out_of_sample.metrics.sharpe", float("nan")),
        ("out_of_sample.metrics.first_day", 20200101),
        ("out_of_sample.curve.strategy", [1.0]),
        ("out_of_sample.curve.strategy", [1.0, 0.0]),
        ("out_of_sample.curve.dates", []),
        ("out_of_sample.curve.dates", ["2020-01-02", "2020-01-01"]),
        ("out_of_sample.curve.dates", ["2020-01-01"] * 2),
        ("out_of_sample.curve.dates", ["2020-01-01"] * 300),
    ],
)
def test_a_forged_result_is_refused(path, value):
    with pytest.raises(BadResult, match="not in the form"):
        result.parse(changed(path, value))


def test_a_missing_or_oversized_result_is_refused_with_its_own_sentence():
    with pytest.raises(BadResult, match="without a result"):
        result.parse(None)
    with pytest.raises(BadResult, match="bytes, more than"):
        result.parse(b" " * (result.MAX_BYTES + 1))


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"3", b'"x"', b"{}", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_result_at_all_is_refused(content):
    with pytest.raises(BadResult):
        result.parse(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(
    path=st.sampled_from(
        [
            "key",
            "kind",
            "parameters",
            "windows",
            "full",
            "out_of_sample",
            "out_of_sample.curve",
            "out_of_sample.curve.dates",
        ]
        + ["out_of_sample.metrics", "out_of_sample.metrics.sharpe", "windows.0.parameters"]
    ),
    value=JSON,
)
def test_any_value_anywhere_is_either_read_or_refused(path, value):
    with contextlib.suppress(BadResult):
        assert isinstance(result.parse(changed(path, value)), result.Result)
