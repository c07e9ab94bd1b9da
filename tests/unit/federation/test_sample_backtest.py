"""The books of a backtest against figures worked out by hand, and the windows it walks through."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from federation.sample import backtest

FREE = backtest.Costs(commission_bps=0, slippage_bps=0)
DEAR = backtest.Costs(commission_bps=60, slippage_bps=40)


def days(count):
    return pd.bdate_range("2020-01-01", periods=count)


def frame(**columns):
    return pd.DataFrame(columns, index=days(len(next(iter(columns.values()))))).astype(float)


def returns_of(prices):
    return prices.pct_change(fill_method=None).fillna(0.0)


def random_prices(count=400, seed=7):
    steps = np.random.default_rng(seed).normal(0.0005, 0.02, size=(count, 3))
    return pd.DataFrame(100 * np.exp(steps.cumsum(axis=0)), index=days(count), columns=["A", "B", "C"])


def test_a_held_weight_earns_the_return_of_its_own_day():
    book = backtest.keep_book(frame(A=[0, 1, 0.5]), frame(A=[0.5, 0.1, 0.2]), FREE)

    assert book.net.tolist() == pytest.approx([0, 0.1, 0.1])
    assert book.equity.iloc[-1] == pytest.approx(1.1 * 1.1)


def test_turnover_is_what_must_be_traded_after_prices_drifted():
    # 50 % in A doubles: drifted to 2/3, so 1/6 of the wealth is sold to be back at 50 %.
    book = backtest.keep_book(frame(A=[0.5, 0.5], B=[0, 0]), frame(A=[1.0, 0.0], B=[0, 0]), FREE)

    assert book.turnover.tolist() == pytest.approx([0.5, 1 / 6])


def test_being_wholly_in_one_symbol_needs_no_trade_to_stay_there():
    book = backtest.keep_book(frame(A=[1, 1, 1]), frame(A=[0.1, -0.2, 0.3]), FREE)

    assert book.turnover.tolist() == pytest.approx([1, 0, 0])


def test_costs_are_the_rate_on_what_is_traded():
    book = backtest.keep_book(frame(A=[1, 1]), frame(A=[0.1, 0.0]), DEAR)

    assert book.cost.tolist() == pytest.approx([0.01, 0.0])
    assert book.net.iloc[0] == pytest.approx(0.99 * 1.1 - 1)


def test_costs_never_raise_the_equity():
    prices = random_prices()
    held = (prices > prices.rolling(5).mean()).astype(float).shift(1).fillna(0) / 3

    free = backtest.keep_book(held, returns_of(prices), FREE).equity
    dear = backtest.keep_book(held, returns_of(prices), DEAR).equity

    assert (dear <= free).all()
    assert dear.iloc[-1] < free.iloc[-1]


def test_a_short_position_earns_from_a_fall():
    book = backtest.keep_book(frame(A=[-1.0]), frame(A=[-0.1]), FREE)

    assert book.net.iloc[0] == pytest.approx(0.1)


def test_losing_everything_is_the_strategys_fault():
    with pytest.raises(backtest.BadStrategy, match="lost all of its capital on 2020-01-02"):
        backtest.keep_book(frame(A=[0.0, -1.0]), frame(A=[0.0, 1.5]), FREE)


def test_metrics_match_figures_worked_out_by_hand():
    net = [0.1, -0.5, 0.0, 0.2]
    book = backtest.keep_book(frame(A=[1, 1, 0, 1]), frame(A=net), FREE)

    figures = backtest.metrics(book)

    mean, deviation = -0.05, math.sqrt((0.15**2 + 0.45**2 + 0.05**2 + 0.25**2) / 3)
    assert figures["total_return"] == pytest.approx(1.1 * 0.5 * 1.2 - 1)
    assert figures["cagr"] == pytest.approx(0.66 ** (252 / 4) - 1)
    assert figures["volatility"] == pytest.approx(deviation * math.sqrt(252))
    assert figures["sharpe"] == pytest.approx(mean / deviation * math.sqrt(252))
    assert figures["max_drawdown"] == pytest.approx(-0.5)
    assert figures["hit_rate"] == pytest.approx(2 / 3)
    assert figures["exposure"] == pytest.approx(0.75)
    # In, out and in again: three trades of the whole wealth in four days.
    assert figures["trades"] == 3
    assert figures["turnover_per_year"] == pytest.approx(3 / (4 / 252))
    assert figures["costs_paid"] == 0
    assert (figures["first_day"], figures["last_day"], figures["days"]) == ("2020-01-01", "2020-01-06", 4)


def test_costs_paid_are_in_shares_of_the_starting_capital():
    # 1 % of 1.0 at the start, then 1 % of the 0.99 * 2 that is sold.
    book = backtest.keep_book(frame(A=[1, 0]), frame(A=[1.0, 0]), DEAR)

    assert backtest.metrics(book)["costs_paid"] == pytest.approx(0.01 + 0.01 * 0.99 * 2)


def test_a_loss_on_the_first_day_is_a_fall_from_the_starting_capital():
    assert backtest.drawdown(pd.Series([0.9, 0.95])) == pytest.approx(-0.1)


def test_the_sharpe_of_nothing_held_is_undefined():
    assert math.isnan(backtest.sharpe(pd.Series([0.0, 0.0, 0.0])))


def test_buy_and_hold_grows_each_pot_with_its_symbol():
    book = backtest.buy_and_hold(frame(A=[1, 2, 4], B=[1, 1, 1]), FREE)

    assert book.equity.tolist() == pytest.approx([1, 1.5, 2.5])
    assert book.turnover.tolist() == pytest.approx([0, 1, 0])


def test_buy_and_hold_keeps_cash_until_a_symbol_is_listed():
    book = backtest.buy_and_hold(frame(A=[1, 1, 1, 1], B=[math.nan, 10, 10, 20]), FREE)

    assert book.equity.tolist() == pytest.approx([1, 1, 1, 1.5])
    assert book.held["B"].tolist() == pytest.approx([0, 0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("count", "train", "test"), [(1000, 300, 100), (1001, 300, 100), (305, 300, 100), (3270, 756, 252)]
)
def test_test_windows_touch_without_overlap_and_reach_the_last_day(count, train, test):
    windows = backtest.split(count, train, test)

    tested = [day for window in windows for day in range(window.test_from, window.test_to)]
    assert tested == list(range(train, count))
    assert all(window.test_from - window.train_from == train for window in windows)


@pytest.mark.parametrize(
    ("count", "train", "test"), [(300, 300, 100), (100, 300, 100), (1000, 10, 100), (1000, 300, 1)]
)
def test_windows_that_cannot_be_made_say_why(count, train, test):
    with pytest.raises(backtest.BadJob, match="days"):
        backtest.split(count, train, test)


def test_parameters_are_chosen_without_a_look_at_the_test_days():
    prices = random_prices()
    honest = pd.DataFrame(1 / 3, index=prices.index, columns=prices.columns)
    # Loses a little on every train day, and has perfect foresight in the test.
    clairvoyant = (returns_of(prices) > 0).astype(float) / 3
    clairvoyant.iloc[:200] = -clairvoyant.iloc[:200] / 100

    train_only, _ = backtest.choose([clairvoyant, honest], returns_of(prices), FREE, backtest.Window(0, 200, 400))
    with_hindsight, _ = backtest.choose([clairvoyant, honest], returns_of(prices), FREE, backtest.Window(0, 400, 400))

    assert (train_only, with_hindsight) == (1, 0)


def test_a_weight_decided_today_earns_tomorrows_return_and_not_todays():
    prices = frame(A=[100, 200, 300, 150, 150])

    def positions(known):
        return (known == 200).astype(float)

    held = backtest.decide(backtest.Strategy(positions, Path("strategy.py")), prices, {}, {})

    assert held["A"].tolist() == [0, 0, 1, 0, 0]
    assert backtest.judged(held, prices, FREE)["metrics"]["total_return"] == pytest.approx(0.5)


def test_the_first_of_equal_candidates_is_chosen():
    prices = random_prices()
    held = pd.DataFrame(1 / 3, index=prices.index, columns=prices.columns)

    assert backtest.choose([held, held.copy()], returns_of(prices), FREE, backtest.Window(0, 200, 400))[0] == 0


def test_candidates_that_never_trade_are_chosen_last():
    prices = random_prices()
    held = pd.DataFrame(-1 / 3, index=prices.index, columns=prices.columns)

    assert backtest.choose([held * 0, held], returns_of(prices), DEAR, backtest.Window(0, 200, 400))[0] == 1


def test_the_walk_stitches_what_each_window_chose():
    prices = random_prices()
    grid = [{"share": 0.1}, {"share": 0.3}]
    candidates = [pd.DataFrame(each["share"], index=prices.index, columns=prices.columns) for each in grid]
    job = {"walk_forward": {"train_days": 100, "test_days": 80}}

    held, rows = backtest.walk(candidates, grid, returns_of(prices), DEAR, job)

    assert held.index.equals(prices.index[100:])
    assert [row["test_from"] for row in rows] == [str(prices.index[day].date()) for day in (100, 180, 260, 340)]
    for row in rows:
        assert (held.loc[row["test_from"] : row["test_to"]] == row["parameters"]["share"]).to_numpy().all()


def test_a_curve_is_thinned_to_its_limit_and_keeps_both_ends():
    prices = random_prices(1000)
    book = backtest.buy_and_hold(prices, FREE)

    curve = backtest.curve(book, book)

    assert len(curve["dates"]) == len(curve["strategy"]) == backtest.MAX_POINTS
    assert (curve["dates"][0], curve["dates"][-1]) == (str(prices.index[0].date()), str(prices.index[-1].date()))
    assert curve["strategy"][-1] == pytest.approx(book.equity.iloc[-1])


def test_a_part_is_judged_from_cash_on_its_first_day():
    prices = frame(A=[1, 2, 4, 8])
    held = frame(A=[0, 1, 1, 1]).iloc[2:]

    outcome = backtest.judged(held, prices, FREE)

    assert outcome["metrics"]["total_return"] == pytest.approx(3)
    assert outcome["benchmark"]["total_return"] == pytest.approx(3)
    assert outcome["metrics"]["days"] == outcome["benchmark"]["days"] == 2
