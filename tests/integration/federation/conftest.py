import pytest

from federation import store
from tests.scripted import runtime  # noqa: F401 - a fixture of the tests of managed agents


@pytest.fixture(autouse=True)
def _no_old_messages():
    """Redis is not rolled back between tests."""
    store.client().delete(store.bus_key("history"), store.bus_key("active"), store.key("last", "sweep_agents"))


@pytest.fixture
def backtest_result():
    """A result.json as a backtest writes it."""

    def make(key: str, sharpe: float | None) -> dict[str, object]:
        figures = {
            "first_day": "2010-01-04", "last_day": "2012-12-31", "days": 750, "trades": 12, "total_return": 0.3,
            "cagr": 0.09, "volatility": 0.2, "sharpe": sharpe, "max_drawdown": -0.2, "turnover_per_year": 3.0,
            "hit_rate": 0.52, "exposure": 0.8, "costs_paid": 0.01, "cost_drag": 0.002,
        }  # fmt: skip
        curve = {
            "dates": ["2010-01-04", "2011-06-01", "2012-12-31"],
            "strategy": [1, 1.2, 1.3],
            "benchmark": [1, 1.1, 1.5],
        }
        period = {"metrics": figures, "benchmark": figures, "curve": curve}
        return {
            "key": key, "strategy": key, "kind": "fixed", "parameters": {"n": 1}, "out_of_sample": period, "full": None,
            "windows": [],
        }  # fmt: skip

    return make
