"""What ships, as bytes and text: the sample's prices, strategies and backtest, and the programs for sandboxes."""

import csv
import gzip
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
INSIDE = HERE.parent / "inside"
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")


@cache
def prices() -> bytes:
    return (HERE / "prices" / "prices.csv.gz").read_bytes()


@cache
def days() -> dict[str, tuple[str, ...]]:
    """The days of trading that there are prices of, by symbol, in order."""
    rows = list(csv.DictReader(gzip.decompress(prices()).decode().splitlines()))
    return {symbol: tuple(row["date"] for row in rows if row[symbol]) for symbol in SYMBOLS}


@cache
def program() -> str:
    return (HERE / "backtest.py").read_text(encoding="utf-8")


@cache
def strategies() -> dict[str, str]:
    """Name -> source of every strategy that ships, by name."""
    files = sorted((HERE / "strategies").glob("*.py"))
    return {path.stem: path.read_text(encoding="utf-8") for path in files}


@cache
def inside(name: str) -> str:
    """A program that runs in a sandbox."""
    return (INSIDE / f"{name}.py").read_text(encoding="utf-8")
