"""What ships with the sample: its prices, its strategies and the backtest program, as bytes and text."""

from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")


@cache
def prices() -> bytes:
    return (HERE / "prices" / "prices.csv.gz").read_bytes()


@cache
def program() -> str:
    return (HERE / "backtest.py").read_text(encoding="utf-8")


@cache
def strategies() -> dict[str, str]:
    """Name -> source of every strategy that ships, by name."""
    files = sorted((HERE / "strategies").glob("*.py"))
    return {path.stem: path.read_text(encoding="utf-8") for path in files}
