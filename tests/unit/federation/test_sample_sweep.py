"""Fanning out, ranking, and the payloads in between."""

import json
from datetime import date

import pytest

from federation.sample import result, shelf, sweep
from federation.sample.sweep import InvalidJob, Strategy

MINE = Strategy("mine", "def positions(prices): ...")


def figures(**changes):
    given = dict.fromkeys(result.FIGURES + result.OPTIONAL, 0.1) | dict.fromkeys(result.COUNTS, 10)
    return result.Metrics(**{**given, "first_day": date(2020, 1, 1), "last_day": date(2020, 2, 1), **changes})


def outcome(key, **changes):
    metrics = figures(**changes)
    period = result.Period(metrics, figures(), (date(2020, 1, 1),), (1.0,), (1.0,))
    return result.Result(key, "mine", "fixed", {}, period, None, ())


def test_a_grid_becomes_one_fixed_job_a_set_and_one_walk_forward():
    made = sweep.jobs([MINE], {"mine": {"a": (1, 2, 3), "b": (True, False)}}, ["IBM"])

    assert [job.kind for job in made].count("fixed") == 6
    assert {tuple(job.parameters.items()) for job in made if job.kind == "fixed"} == {
        (("a", a), ("b", b)) for a in (1, 2, 3) for b in (True, False)
    }
    (walk,) = (job for job in made if job.kind == "walk_forward")
    assert walk.grid == tuple(job.parameters for job in made if job.kind == "fixed")


def test_a_strategy_without_a_grid_runs_with_its_own_defaults():
    made = sweep.jobs([MINE], {}, ["IBM"])

    assert [(job.kind, job.parameters, job.grid) for job in made] == [("fixed", {}, ()), ("walk_forward", {}, ({},))]


def test_the_sample_sweep_is_33_jobs_with_keys_of_their_own():
    made = sweep.sample_jobs()

    assert len(made) == len({job.key for job in made}) == 33
    assert made == sweep.sample_jobs()


def test_the_first_jobs_already_show_every_strategy():
    made = sweep.sample_jobs()

    assert {job.strategy for job in made[:5]} == set(shelf.strategies())
    assert {job.kind for job in made[5:10]} == {"walk_forward"}


@pytest.mark.parametrize("job", sweep.sample_jobs(), ids=lambda job: job.key)
def test_a_job_survives_its_way_through_a_task_payload(job):
    assert sweep.parse(json.loads(json.dumps(job.as_payload()))) == job


def test_a_payload_may_name_a_strategy_that_ships_and_nothing_else():
    job = sweep.parse({"strategy": "momentum"})

    assert job.source == shelf.strategies()["momentum"]
    assert (job.kind, job.symbols, job.parameters) == ("fixed", shelf.SYMBOLS, {})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"strategy": 7}, "needs the name"),
        ({"strategy": ""}, "1 to 80 printable"),
        ({"strategy": "a\nb", "source": "x"}, "1 to 80 printable"),
        ({"strategy": "unknown"}, "must carry its source"),
        ({"source": ["x"]}, "must carry its source"),
        ({"source": "x" * 300_000}, "longer than"),
        ({"kind": "live"}, "not 'live'"),
        ({"kind": ["fixed"]}, "is fixed or walk_forward"),
        ({"kind": "walk_forward"}, "it has 0"),
        ({"kind": "walk_forward", "grid": [{}] * 101}, "it has 101"),
        ({"grid": 3}, "are lists"),
        ({"symbols": "IBM"}, "are lists"),
        ({"symbols": []}, "each once"),
        ({"symbols": ["IBM", "IBM"]}, "each once"),
        ({"symbols": [["IBM"]]}, "each once"),
        ({"symbols": ["TSLA"]}, "TSLA"),
        ({"parameters": None}, "an object of at most 20"),
        ({"parameters": {"a b": 1}}, "cannot be the name"),
        ({"parameters": {"a": [1]}}, "must be a number"),
        ({"parameters": {"a": "x" * 81}}, "must be a number"),
        ({"parameters": {"a": float("nan")}}, "finite"),
        ({"parameters": {str(number): 1 for number in range(21)}}, "at most 20"),
        ({"grid": ["x"]}, "an object of at most 20"),
        ({"speed": 1}, "no field 'speed'"),
    ],
)
def test_a_payload_no_backtest_can_be_made_of_says_what_to_change(changes, sentence):
    with pytest.raises(InvalidJob, match=sentence):
        sweep.parse({"strategy": "momentum", **changes})


@pytest.mark.parametrize("values", [(), tuple(range(101))])
def test_a_grid_that_is_empty_or_too_large_is_refused(values):
    with pytest.raises(InvalidJob, match="parameter sets"):
        sweep.jobs([MINE], {"mine": {"a": values}}, ["IBM"])


def test_a_sweep_that_is_too_large_is_refused():
    many = [Strategy(f"s{number}", "x") for number in range(11)]

    with pytest.raises(InvalidJob, match="1111 jobs"):
        sweep.jobs(many, {each.name: {"a": tuple(range(100))} for each in many}, ["IBM"])


def test_a_request_carries_everything_the_program_reads():
    job = sweep.sample_jobs()[0]

    request = sweep.execution_request(job)

    assert request["code"] == shelf.program()
    assert set(request["files"]) == {"prices.csv.gz", "strategy.py", "job.json"}
    assert all(isinstance(content, bytes) for content in request["files"].values())
    assert json.loads(request["files"]["job.json"])["parameters"] == job.parameters
    assert request["language"] == "python"
    assert 1 <= request["timeout_seconds"] <= 3600


def test_the_best_out_of_sample_sharpe_comes_first_and_an_undefined_one_last():
    rows = sweep.rank([outcome("none", sharpe=None), outcome("bad", sharpe=-1.0), outcome("good", sharpe=2.0)])

    assert [(row.place, row.result.key) for row in rows] == [(1, "good"), (2, "bad"), (3, "none")]


def test_ties_go_to_the_shallower_fall_then_less_trading_then_the_name():
    rows = sweep.rank(
        [
            outcome("deep", max_drawdown=-0.5),
            outcome("busy", max_drawdown=-0.2, turnover_per_year=9),
            outcome("b", max_drawdown=-0.2, turnover_per_year=1),
            outcome("a", max_drawdown=-0.2, turnover_per_year=1),
        ]
    )

    assert [row.result.key for row in rows] == ["a", "b", "busy", "deep"]


def test_a_result_that_arrives_twice_is_ranked_once():
    assert len(sweep.rank([outcome("a"), outcome("a"), outcome("b")])) == 2


def test_the_order_of_arrival_does_not_matter():
    results = [outcome(key, sharpe=sharpe) for key, sharpe in (("a", 1.0), ("b", 1.0), ("c", 3.0), ("d", None))]

    assert sweep.rank(results) == sweep.rank(reversed(results))


def test_luck_alone_grows_with_the_tries_and_shrinks_with_the_years():
    assert sweep.best_by_luck(tries=1, years=10) == 0
    assert sweep.best_by_luck(tries=28, years=10) > sweep.best_by_luck(tries=5, years=10)
    assert sweep.best_by_luck(tries=28, years=40) == pytest.approx(sweep.best_by_luck(tries=28, years=10) / 2)
    # The expected maximum of 10 standard normal draws is 1.5388 (tables of order statistics).
    assert sweep.best_by_luck(tries=10, years=1) == pytest.approx(1.5388, abs=0.05)


@pytest.mark.parametrize(
    ("name", "title"),
    [("mean_reversion", "Mean reversion"), ("ma_crossover", "Moving-average crossover"), ("my_own", "my_own")],
)
def test_strategies_that_ship_have_words_and_others_keep_their_names(name, title):
    assert sweep.title(name) == title
