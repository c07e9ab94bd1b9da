"""The strategies that ship, and the prices they run on."""

import types

import numpy as np
import pandas as pd
import pytest

from federation.sample import backtest, shelf

NAMES = ("breakout", "ma_crossover", "mean_reversion", "momentum", "volatility_target")


@pytest.fixture(scope="module")
def prices(tmp_path_factory):
    path = tmp_path_factory.mktemp("prices") / "prices.csv.gz"
    path.write_bytes(shelf.prices())
    return backtest.read_prices(path, shelf.SYMBOLS)


def load(name):
    module = types.ModuleType(name)
    exec(shelf.strategies()[name], module.__dict__)
    return module.positions


def constant(prices, value=100.0):
    return pd.DataFrame(value, index=prices.index, columns=prices.columns)


def test_five_strategies_ship():
    assert tuple(shelf.strategies()) == NAMES


def test_the_prices_are_the_ones_their_source_note_describes(prices):
    assert len(prices) == 3270
    assert (str(prices.index[0].date()), str(prices.index[-1].date())) == ("2000-03-01", "2013-03-01")
    assert prices.count().to_dict() == {"AAPL": 3270, "GOOG": 2148, "IBM": 3270, "MSFT": 3270}
    assert prices["IBM"].iloc[-1] == 175.2712


def test_the_prices_are_small_and_name_their_source_and_licence():
    folder = shelf.HERE / "prices"

    assert len(shelf.prices()) < 600_000
    assert "Public domain" in (folder / "SOURCE.md").read_text()
    assert "Redistribution and use" in (folder / "LICENSE.bokeh-sampledata.txt").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_later_prices_never_change_earlier_weights(name, prices):
    positions = load(name)
    changed = prices.copy()
    changed.iloc[2000:] *= np.linspace(0.2, 5, len(changed) - 2000)[:, None]

    before, after = positions(prices), positions(changed)

    pd.testing.assert_frame_equal(before.iloc[:2000], after.iloc[:2000])
    assert not before.iloc[2000:].equals(after.iloc[2000:])


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_complete_and_add_up_to_one_at_most(name, prices):
    weights = load(name)(prices)

    assert not weights.isna().to_numpy().any()
    assert (weights >= 0).to_numpy().all()
    assert weights.sum(axis=1).max() <= 1 + 1e-9
    assert weights["GOOG"][prices["GOOG"].isna()].eq(0).all()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"volatility_target"}))
def test_prices_that_never_move_give_no_reason_to_hold_anything(name, prices):
    weights = load(name)(constant(prices))

    assert weights.to_numpy().sum() == 0


def test_volatility_target_holds_everything_in_a_market_that_does_not_move(prices):
    weights = load("volatility_target")(constant(prices))

    assert weights.iloc[-1].sum() == pytest.approx(1)


def test_volatility_target_holds_less_when_markets_are_restless(prices):
    calm, restless = load("volatility_target")(prices, target=0.5), load("volatility_target")(prices, target=0.1)

    assert restless.sum(axis=1).mean() < calm.sum(axis=1).mean()


def series(*values):
    return pd.DataFrame(
        {"A": [float(value) for value in values]}, index=pd.bdate_range("2020-01-01", periods=len(values))
    )


def test_momentum_holds_what_rose_and_drops_it_once_it_fell():
    weights = load("momentum")(series(1, 2, 3, 2, 1, 1), lookback=2, top=1, every=1)

    assert weights["A"].tolist() == [0, 0, 1, 0, 0, 0]


def test_momentum_keeps_its_choice_between_decision_days():
    weights = load("momentum")(series(1, 2, 3, 2, 1, 1), lookback=1, top=1, every=2)

    assert weights["A"].tolist() == [0, 0, 1, 1, 0, 0]


def test_breakout_enters_at_a_new_high_and_leaves_at_a_new_low():
    weights = load("breakout")(series(1, 1, 2, 3, 3, 2, 1), entry=2, leave=2)

    assert weights["A"].tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_mean_reversion_buys_the_fall_and_sells_the_return():
    weights = load("mean_reversion")(series(10, 11, 10, 11, 6, 7, 12, 12), window=4, entry=1.0)

    assert weights["A"].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]


def test_ma_crossover_holds_while_the_fast_mean_is_above_the_slow_one():
    weights = load("ma_crossover")(series(3, 2, 1, 2, 3, 4), fast=1, slow=3)

    assert weights["A"].tolist() == [0, 0, 0, 1, 1, 1]
