"""The backtest as a whole program in a folder of its own, as a sandbox runs it."""

import json
import subprocess
import sys

import pytest

from federation.sample import backtest, result, shelf, sweep

HOLD = "import pandas as pd\ndef positions(prices):\n    return prices.notna() / prices.shape[1]\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "prices.csv.gz").write_bytes(shelf.prices())
    return tmp_path


def run(folder, source, **changes):
    job = {
        "key": "k",
        "strategy": "mine",
        "kind": "fixed",
        "symbols": list(shelf.SYMBOLS),
        "parameters": {},
        **changes,
    }
    (folder / "strategy.py").write_text(source)
    (folder / "job.json").write_text(json.dumps(job))
    return backtest.main(folder)


def written(folder):
    return result.parse((folder / "artifacts" / "result.json").read_bytes())


def body(*lines):
    return "import numpy as np\nimport pandas as pd\ndef positions(prices):\n" + "".join(
        f"    {line}\n" for line in lines
    )


def test_a_fixed_job_judges_its_parameters_over_all_days_and_out_of_sample(folder, capsys):
    code = run(folder, HOLD)

    outcome = written(folder)
    assert code == 0
    assert outcome.full.metrics.days == 3270
    assert outcome.out_of_sample.metrics.days == 3270 - 756
    assert "Out of sample from 2003-03-07" in capsys.readouterr().out


def test_a_walk_forward_job_chooses_once_for_each_window(folder, capsys):
    job = next(job for job in sweep.sample_jobs() if job.key == "breakout:walk_forward")

    code = run(folder, job.source, kind="walk_forward", grid=list(job.grid))

    outcome = written(folder)
    assert code == 0
    assert outcome.full is None
    assert len(outcome.windows) == 10
    assert all(dict(window.parameters) in job.grid for window in outcome.windows)
    assert "Window 10 of 10: chose" in capsys.readouterr().out


def test_both_kinds_are_judged_on_the_same_days(folder):
    run(folder, HOLD)
    fixed = written(folder)
    run(folder, HOLD, kind="walk_forward", grid=[{}])
    walked = written(folder)

    assert fixed.out_of_sample.dates == walked.out_of_sample.dates
    assert fixed.out_of_sample.metrics == walked.out_of_sample.metrics


def test_the_same_job_writes_the_same_bytes(folder):
    source = body("return prices.notna() * np.random.default_rng(np.random.randint(9)).random() / prices.shape[1]")
    run(folder, source)
    first = (folder / "artifacts" / "result.json").read_bytes()
    run(folder, source)

    assert (folder / "artifacts" / "result.json").read_bytes() == first


def test_costs_make_the_same_strategy_earn_less(folder):
    source = shelf.strategies()["breakout"]
    run(folder, source, costs={"commission_bps": 0, "slippage_bps": 0})
    free = written(folder).full.metrics
    run(folder, source, costs={"commission_bps": 5, "slippage_bps": 10})
    dear = written(folder).full.metrics

    assert dear.cagr < free.cagr
    assert (free.costs_paid, free.cost_drag) == (0, 0)
    assert dear.cost_drag == pytest.approx(free.cagr - dear.cagr, abs=1e-6)


def test_a_strategy_for_one_symbol_may_return_a_series(folder):
    assert run(folder, body("return prices['IBM'] * 0 + 1.0"), symbols=["IBM"]) == 0


def test_a_strategy_cannot_change_the_prices_it_is_judged_on(folder):
    run(folder, HOLD)
    honest = written(folder)
    code = run(folder, body("w = prices.notna() / prices.shape[1]", "prices.iloc[:] = 1.0", "return w"))

    assert code == 0
    assert written(folder).out_of_sample == honest.out_of_sample


def test_a_strategy_that_never_holds_anything_has_no_sharpe(folder):
    assert run(folder, body("return prices.notna() * 0.0")) == 0
    assert written(folder).out_of_sample.metrics.sharpe is None


BAD = {
    "raises": (body("return 1 / 0"), "failed while deciding in line 4: ZeroDivisionError"),
    "says it in many lines": (body("raise ValueError('first\\nsecond')"), "in line 4: ValueError: first"),
    "never returns from itself": (body("return positions(prices)"), "RecursionError: maximum recursion depth"),
    "cannot be imported": ("import nothing_like_this\n", "failed while loading in line 1: ModuleNotFoundError"),
    "is no Python": ("def positions(:\n", "failed while loading: SyntaxError"),
    "leaves": (body("raise SystemExit(0)"), "failed while deciding in line 4: SystemExit"),
    "has no positions": ("x = 1\n", "no function named positions"),
    "takes no prices": ("def positions():\n    return 1\n", "does not fit the parameters"),
    "returns a number": (body("return 1.0"), "must return a DataFrame of weights, not float"),
    "returns a series for many": (body("return prices['IBM']"), "must return a DataFrame of weights, not Series"),
    "returns fewer days": (body("return prices.iloc[5:] * 0"), "one row for each of the 3270 days"),
    "moves the dates": (
        body("w = prices * 0", "w.index = w.index + pd.Timedelta(days=1)", "return w"),
        "moved the dates",
    ),
    "drops a symbol": (body("return prices[['IBM']] * 0"), "must return the columns AAPL, GOOG, IBM, MSFT, not IBM"),
    "returns words": (body("return prices.notna().replace(True, 'buy').astype(object)"), "must return numbers"),
    "leaves holes": (body("return prices.shift(3) * 0"), "of AAPL on 2000-03-01 is empty or infinite"),
    "divides by zero": (body("return prices.fillna(1) / 0"), "is empty or infinite"),
    "borrows": (body("return prices.notna() * 1.0"), "of 2000-03-01 add up to 3.00, above the limit of 1"),
    "buys what is not listed": (
        body("return prices.fillna(0) * 0 + 0.25"),
        "wants GOOG on 2000-03-01, before it has a price",
    ),
    "knows tomorrow": (body("return (prices.shift(-1) > prices) / 4"), "looks ahead: its weight of"),
    "knows tomorrow on the last days only": (
        body("w = (prices.shift(-1) > prices) / 4", "w.loc[:'2013-02-01'] = 0.0", "return w"),
        "looks ahead: its weight of",
    ),
    "knows the mean of all days": (body("return (prices > prices.mean()) / 4"), "looks ahead: its weight of"),
    "throws dice": (
        body("return prices.notna() * np.random.default_rng().random() / 4"),
        "different weights for the same prices",
    ),
    "remembers its last answer": (
        "calls = []\ndef positions(prices):\n    calls.append(1)\n    return prices.notna() / 4 / len(calls)\n",
        "different weights for the same prices",
    ),
    "knows the end": (body("return prices.rank(pct=True).fillna(0) / 4"), "looks ahead: its weight of"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_strategy_ends_with_one_sentence_that_says_why(case, folder, capsys):
    source, sentence = BAD[case]

    code = run(folder, source)

    error = capsys.readouterr().err
    assert code == 1
    assert sentence in error.splitlines()[0]
    assert not (folder / "artifacts" / "result.json").exists()


def test_a_strategy_that_raises_is_shown_its_own_lines_only(folder, capsys):
    run(folder, body("return inner(prices)") + "def inner(prices):\n    return prices['no such symbol']\n")

    error = capsys.readouterr().err
    assert "line 4, in positions" in error
    assert "line 6, in inner" in error
    assert "KeyError: 'no such symbol'" in error
    assert "backtest.py" not in error
    assert "site-packages" not in error


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "other"}, "kind must be fixed or walk_forward"),
        ({"kind": "walk_forward"}, "needs a grid"),
        ({"symbols": ["TSLA"]}, "no prices for TSLA"),
        ({"symbols": []}, "no prices for no symbol at all"),
        ({"costs": {"commission_bps": "much"}}, "as numbers"),
        ({"costs": {"commission_bps": -9, "slippage_bps": 0}}, "at least 0"),
        ({"walk_forward": {"train_days": 9999}}, "too few to train on 9999"),
    ],
)
def test_a_bad_job_is_not_blamed_on_the_strategy(changes, sentence, folder, capsys):
    assert run(folder, HOLD, **changes) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("date,A\n2020-01-02,1\n2020-01-01,2\n", "dates must rise"),
        ("date,A\n2020-01-01,1\n2020-01-02,0\n", "above zero"),
        ("date,A\n2020-01-01,1\n2020-01-02,\n2020-01-03,1\n", "a gap after its listing"),
        ("date,A\n2020-01-01,\n", "a gap after its listing"),
    ],
)
def test_prices_that_cannot_be_right_are_refused(table, sentence, tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text(table)

    with pytest.raises(backtest.BadJob, match=sentence):
        backtest.read_prices(path, ["A"])


def test_an_execution_request_runs_as_it_is_in_an_empty_folder(tmp_path):
    job = next(job for job in sweep.sample_jobs() if job.strategy == "momentum")
    request = sweep.execution_request(job)
    for path, content in request["files"].items():
        (tmp_path / path).write_bytes(content)

    ended = subprocess.run([sys.executable, "-c", request["code"]], cwd=tmp_path, capture_output=True, text=True)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert written(tmp_path).key == job.key
    assert (tmp_path / "artifacts" / "result.json").stat().st_size < 32_000
