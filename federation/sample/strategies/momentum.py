"""Holds the symbols that rose most over the last months, and nothing that fell."""

import numpy as np
import pandas as pd


def positions(prices: pd.DataFrame, lookback: int = 126, top: int = 2, every: int = 21) -> pd.DataFrame:
    """Every `every` days: an equal share in each of the `top` best of the last `lookback` days."""
    gain = prices / prices.shift(lookback) - 1
    best = gain.rank(axis=1, ascending=False, method="first") <= top
    wanted = (best & (gain > 0)).astype(float) / top
    is_decision_day = pd.Series(np.arange(len(prices)) % every == 0, index=prices.index)
    return wanted.where(is_decision_day, axis=0).ffill().fillna(0.0)
