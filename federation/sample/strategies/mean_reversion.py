"""Buys a symbol that fell far below its recent mean, and sells when it is back there."""

import pandas as pd


def positions(prices: pd.DataFrame, window: int = 20, entry: float = 1.5, leave: float = 0.0) -> pd.DataFrame:
    """An equal share in each symbol from `entry` deviations below its mean until `leave` above it."""
    mean = prices.rolling(window).mean()
    distance = (prices - mean) / prices.rolling(window).std()
    signal = pd.DataFrame(float("nan"), index=prices.index, columns=prices.columns)
    signal = signal.mask(distance < -entry, 1.0).mask(distance > leave, 0.0)
    return signal.ffill().fillna(0.0) / prices.shape[1]
