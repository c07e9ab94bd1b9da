"""Holds a symbol while its fast moving average is above its slow one."""

import pandas as pd


def positions(prices: pd.DataFrame, fast: int = 20, slow: int = 100) -> pd.DataFrame:
    """An equal share in each symbol whose `fast`-day mean is above its `slow`-day mean."""
    rising = prices.rolling(fast).mean() > prices.rolling(slow).mean()
    return rising.astype(float) / prices.shape[1]
