"""Buys a symbol at a new high and sells it at a new low (Donchian channels)."""

import pandas as pd


def positions(prices: pd.DataFrame, entry: int = 55, leave: int = 20) -> pd.DataFrame:
    """An equal share in each symbol from its `entry`-day high until its `leave`-day low."""
    # shift(1): the channel ends yesterday, else today's price could never leave it.
    high = prices.rolling(entry).max().shift(1)
    low = prices.rolling(leave).min().shift(1)
    signal = pd.DataFrame(float("nan"), index=prices.index, columns=prices.columns)
    signal = signal.mask(prices > high, 1.0).mask(prices < low, 0.0)
    return signal.ffill().fillna(0.0) / prices.shape[1]
