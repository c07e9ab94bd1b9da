"""The program a backtest runs inside its sandbox; sent whole as an execution's code, so it imports nothing of ours.

    reads   prices.csv.gz   date, one column a symbol, daily closes; empty = not listed yet
            strategy.py     positions(prices, **parameters) -> target weights, one row a day
            job.json        {key, strategy, kind, symbols, parameters | grid, costs, walk_forward, max_gross}
    writes  artifacts/result.json

Time: the weights of day t are decided after its close, are held from then on and earn the return of day t+1.
A failure is one sentence on stderr, then the strategy's own traceback lines if it raised; exit code 1 when
the strategy is at fault, 2 when the job or the prices are.
"""

import importlib.util
import inspect
import json
import math
import os
import random
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

# One sandbox has one core; threads of the linear algebra library would only count against its process limit.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402 - after the setting above
import pandas as pd  # noqa: E402 - after the setting above

DAYS_A_YEAR = 252
MAX_POINTS = 250  # of one equity curve
MAX_WINDOWS_LISTED = 60
MAX_RESULT_BYTES = 256 * 1024
# Where the history is cut to see whether earlier weights change (see check_no_look_ahead).
CUTS = (0.35, 0.62, 0.87)
TOLERANCE = 1e-6

Parameters = Mapping[str, Any]


class BadJob(Exception):
    """job.json or the prices cannot be used."""


class BadStrategy(Exception):
    """The strategy did something a strategy must not do."""

    def __init__(self, sentence: str, lines: str = "") -> None:
        super().__init__(sentence)
        self.lines = lines


@dataclass(frozen=True)
class Strategy:
    positions: Callable[..., object]
    path: Path


@dataclass(frozen=True)
class Costs:
    commission_bps: float
    slippage_bps: float

    @property
    def rate(self) -> float:
        return (self.commission_bps + self.slippage_bps) / 10_000


@dataclass(frozen=True)
class Window:
    """Row numbers, half-open: parameters are chosen on train and judged on test."""

    train_from: int
    test_from: int
    test_to: int


@dataclass(frozen=True)
class Book:
    """What holding some weights over some days came to."""

    held: pd.DataFrame
    gross: pd.Series
    net: pd.Series
    turnover: pd.Series
    cost: pd.Series

    @property
    def equity(self) -> pd.Series:
        return (1 + self.net).cumprod()


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this program talks to people through stdout


def read_job(path: Path) -> dict[str, Any]:
    try:
        job = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadJob(f"The job cannot be read: {error}.") from error
    if not isinstance(job, dict):
        raise BadJob("The job must be a JSON object.")
    if job.get("kind") not in ("fixed", "walk_forward"):
        raise BadJob(f"The job's kind must be fixed or walk_forward, not {job.get('kind')!r}.")
    if job["kind"] == "walk_forward" and not job.get("grid"):
        raise BadJob("A walk-forward job needs a grid of at least one parameter set.")
    return job


def read_costs(values: Mapping[str, Any]) -> Costs:
    try:
        costs = Costs(**{name: float(value) for name, value in values.items()})
    except (TypeError, ValueError, AttributeError) as error:
        raise BadJob(f"The costs need commission_bps and slippage_bps as numbers: {error}.") from error
    if not 0 <= costs.rate < 0.1:
        raise BadJob("Commission and slippage together must be at least 0 and below 1,000 basis points.")
    return costs


def read_prices(path: Path, symbols: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, index_col=0, parse_dates=True)
    except (OSError, ValueError) as error:
        raise BadJob(f"The prices cannot be read: {error}.") from error
    missing = [symbol for symbol in symbols if symbol not in table.columns]
    if missing or not symbols:
        raise BadJob(f"There are no prices for {', '.join(missing) or 'no symbol at all'}.")
    prices = table[list(symbols)].astype(float)
    check_prices(prices)
    return prices


def check_prices(prices: pd.DataFrame) -> None:
    if not prices.index.is_monotonic_increasing or not prices.index.is_unique:
        raise BadJob("The prices' dates must rise, each once.")
    if not ((prices > 0) & np.isfinite(prices)).where(prices.notna(), True).to_numpy().all():
        raise BadJob("Every price must be a number above zero.")
    for symbol in prices:
        first = prices[symbol].first_valid_index()
        if first is None or prices.loc[first:, symbol].isna().any():
            raise BadJob(f"The prices of {symbol} have a gap after its listing.")


def load_strategy(path: Path) -> Strategy:
    spec = importlib.util.spec_from_file_location("strategy", path)
    if spec is None or spec.loader is None:
        raise BadJob(f"{path} is not a Python file.")
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules["strategy"] = module
    guarded(lambda: spec.loader.exec_module(module), path=path, doing="loading")
    positions = getattr(module, "positions", None)
    if not callable(positions):
        raise BadStrategy("The strategy has no function named positions(prices, **parameters).")
    return Strategy(positions, path)


def guarded(call: Callable[[], object], *, path: Path, doing: str) -> object:
    """Run the strategy's code; whatever it raises becomes BadStrategy with its own lines only."""
    try:
        return call()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a customer's code may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).name == path.name]
        last = "".join(traceback.format_exception_only(error)).strip()
        where = f" in line {own[-1].lineno}" if own else ""
        # A message may have many lines; the one that begins with the error's name says most.
        name = type(error).__name__
        said = next((line for line in last.splitlines() if name in line.split(":")[0]), last.splitlines()[-1])
        sentence = f"The strategy failed while {doing}{where}: {said[:300]}"
        raise BadStrategy(sentence, "".join(traceback.format_list(own)) + last) from error


def check_parameters(strategy: Strategy, parameters: Parameters) -> None:
    try:
        inspect.signature(strategy.positions).bind(None, **parameters)
    except TypeError as error:
        given = ", ".join(parameters) or "none"
        raise BadStrategy(f"positions() does not fit the parameters of this job ({given}): {error}.") from error


def ask(strategy: Strategy, prices: pd.DataFrame, parameters: Parameters) -> pd.DataFrame:
    """Target weights for every day, checked, in the order of the prices' columns."""
    random.seed(0)
    np.random.seed(0)
    # A copy: a strategy that writes into its prices must not change what it is judged on.
    answer = guarded(lambda: strategy.positions(prices.copy(), **parameters), path=strategy.path, doing="deciding")
    if isinstance(answer, pd.Series) and prices.shape[1] == 1:
        answer = answer.to_frame(prices.columns[0])
    if not isinstance(answer, pd.DataFrame):
        raise BadStrategy(f"positions() must return a DataFrame of weights, not {type(answer).__name__}.")
    return check_weights(answer, prices)


def check_weights(answer: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    if len(answer) != len(prices) or not answer.index.equals(prices.index):
        raise BadStrategy(
            f"positions() must return one row for each of the {len(prices)} days it was given, under the same dates; "
            f"it returned {len(answer)} rows or moved the dates."
        )
    if not answer.columns.is_unique or set(answer.columns) != set(prices.columns):
        raise BadStrategy(
            f"positions() must return the columns {', '.join(prices.columns)}, "
            f"not {', '.join(map(str, answer.columns))[:200] or 'none'}."
        )
    try:
        weights = answer[list(prices.columns)].astype(float)
    except (TypeError, ValueError) as error:
        raise BadStrategy(f"positions() must return numbers: {error}.") from error
    return check_values(weights, prices)


def check_values(weights: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    # Before a symbol is listed nothing can be held, so an empty weight there is a zero.
    weights = weights.where(weights.notna() | prices.notna(), 0.0)
    bad = ~np.isfinite(weights)
    if bad.to_numpy().any():
        day, symbol = first_cell(bad)
        raise BadStrategy(f"The weight of {symbol} on {day} is empty or infinite; fill it with 0 to hold nothing.")
    early = (weights != 0) & prices.isna()
    if early.to_numpy().any():
        day, symbol = first_cell(early)
        raise BadStrategy(f"The strategy wants {symbol} on {day}, before it has a price.")
    return weights


def first_cell(mask: pd.DataFrame) -> tuple[str, str]:
    row, column = map(int, np.argwhere(mask.to_numpy())[0])
    return str(mask.index[row].date()), str(mask.columns[column])


def check_gross(weights: pd.DataFrame, limit: float) -> None:
    gross = weights.abs().sum(axis=1)
    over = gross > limit + TOLERANCE
    if over.any():
        day = over.idxmax()
        raise BadStrategy(f"The weights of {day.date()} add up to {gross[day]:.2f}, above the limit of {limit:g}.")


def check_no_look_ahead(
    strategy: Strategy, prices: pd.DataFrame, parameters: Parameters, weights: pd.DataFrame
) -> None:
    """Ask again with the later days cut off; a weight that differs was decided with them."""
    for length in sorted({int(len(prices) * cut) for cut in CUTS} | {len(prices) - 1}):
        if length < 2:
            continue
        again = ask(strategy, prices.iloc[:length], parameters)
        differs = (again - weights.iloc[:length]).abs() > TOLERANCE
        if differs.to_numpy().any():
            check_repeats(strategy, prices, parameters, weights)
            day, symbol = first_cell(differs)
            raise BadStrategy(
                f"The strategy looks ahead: its weight of {symbol} on {day} "
                f"changes when the days after {prices.index[length - 1].date()} are taken away."
            )


def check_repeats(strategy: Strategy, prices: pd.DataFrame, parameters: Parameters, weights: pd.DataFrame) -> None:
    """A strategy that answers differently every time only seems to look ahead."""
    if ((ask(strategy, prices, parameters) - weights).abs() > TOLERANCE).to_numpy().any():
        raise BadStrategy("The strategy gives different weights for the same prices; give its random numbers a seed.")


def decide(strategy: Strategy, prices: pd.DataFrame, parameters: Parameters, job: dict) -> pd.DataFrame:
    """The weights held on each day: those decided the day before."""
    check_parameters(strategy, parameters)
    weights = ask(strategy, prices, parameters)
    check_gross(weights, float(job.get("max_gross", 1.0)))
    check_no_look_ahead(strategy, prices, parameters, weights)
    return weights.shift(1).fillna(0.0)


def keep_book(held: pd.DataFrame, returns: pd.DataFrame, costs: Costs) -> Book:
    """Start from cash, trade to the held weights every day, and pay for what is traded."""
    gross = (held * returns).sum(axis=1)
    # Yesterday's weights drifted with the prices; only the difference to today's is traded.
    drifted = (held * (1 + returns)).div(1 + gross, axis=0).shift(1).fillna(0.0)
    turnover = (held - drifted).abs().sum(axis=1)
    cost = turnover * costs.rate
    net = (1 - cost) * (1 + gross) - 1
    if (net <= -1).any() or (gross <= -1).any():
        raise BadStrategy(f"The strategy lost all of its capital on {(np.minimum(net, gross) <= -1).idxmax().date()}.")
    return Book(held=held, gross=gross, net=net, turnover=turnover, cost=cost)


def buy_and_hold(prices: pd.DataFrame, costs: Costs) -> Book:
    """An equal pot for each symbol, bought on the first day or at its listing, and never touched again."""
    first = prices.bfill().iloc[0]
    pots = (prices / first).fillna(1.0) / prices.shape[1]
    held = pots.shift(1).where(prices.shift(1).notna(), 0.0)
    # The first row is the close everything is bought at: it earns nothing.
    held.iloc[0] = 0.0
    wealth = pots.sum(axis=1)
    held = held.div(wealth.shift(1), axis=0).fillna(0.0)
    gross = wealth.pct_change().fillna(0.0)
    bought = (held > 0) & ~(held.shift(1) > 0)
    turnover = held.where(bought, 0.0).sum(axis=1)
    cost = turnover * costs.rate
    return Book(held=held, gross=gross, net=(1 - cost) * (1 + gross) - 1, turnover=turnover, cost=cost)


def sharpe(net: pd.Series) -> float:
    """Yearly Sharpe ratio over a zero rate; nan when nothing moved."""
    deviation = float(net.std()) if len(net) > 1 else 0.0
    return float(net.mean()) / deviation * math.sqrt(DAYS_A_YEAR) if deviation > 1e-12 else math.nan


def yearly(net: pd.Series) -> float:
    return float((1 + net).prod()) ** (DAYS_A_YEAR / len(net)) - 1


def drawdown(equity: pd.Series) -> float:
    peak = equity.cummax().clip(lower=1.0)
    return float((equity / peak - 1).min())


def metrics(book: Book) -> dict[str, Any]:
    invested = book.held.abs().sum(axis=1) > 0
    years = len(book.net) / DAYS_A_YEAR
    start = book.equity.shift(1).fillna(1.0)
    changed = (book.held - book.held.shift(1).fillna(0.0)).abs() > 1e-9
    return {
        "first_day": str(book.net.index[0].date()),
        "last_day": str(book.net.index[-1].date()),
        "days": len(book.net),
        "total_return": float(book.equity.iloc[-1]) - 1,
        "cagr": yearly(book.net),
        "volatility": float(book.net.std()) * math.sqrt(DAYS_A_YEAR),
        "sharpe": sharpe(book.net),
        "max_drawdown": min(drawdown(book.equity), 0.0),
        "turnover_per_year": float(book.turnover.sum()) / years,
        "hit_rate": float((book.net[invested] > 0).mean()) if invested.any() else math.nan,
        "exposure": float(book.held.abs().sum(axis=1).mean()),
        "costs_paid": float((book.cost * start).sum()),
        "cost_drag": yearly(book.gross) - yearly(book.net),
        "trades": int(changed.to_numpy().sum()),
    }


def split(days: int, train_days: int, test_days: int) -> list[Window]:
    """Rolling windows; the tests touch without overlap and reach the last day."""
    if train_days < 20 or test_days < 5:
        raise BadJob("A walk-forward needs at least 20 days to train and 5 to test.")
    if days <= train_days:
        raise BadJob(f"{days} days of prices are too few to train on {train_days} and test on what is left.")
    starts = range(train_days, days, test_days)
    return [Window(start - train_days, start, min(start + test_days, days)) for start in starts]


def choose(
    candidates: Sequence[pd.DataFrame], returns: pd.DataFrame, costs: Costs, window: Window
) -> tuple[int, float]:
    """The candidate with the best Sharpe ratio on the train days alone; the first of equals."""
    train = slice(window.train_from, window.test_from)
    scores = [sharpe(keep_book(held.iloc[train], returns.iloc[train], costs).net) for held in candidates]
    ranked = [-math.inf if math.isnan(score) else score for score in scores]
    best = ranked.index(max(ranked))
    return best, scores[best]


def walk(
    candidates: Sequence[pd.DataFrame], grid: Sequence[Parameters], returns: pd.DataFrame, costs: Costs, job: dict
) -> tuple[pd.DataFrame, list[dict]]:
    """The weights of the stitched test windows, and what was chosen for each."""
    windows = windows_of(job, len(returns))
    pieces, rows = [], []
    for number, window in enumerate(windows, start=1):
        best, train_score = choose(candidates, returns, costs, window)
        test = slice(window.test_from, window.test_to)
        piece = candidates[best].iloc[test]
        book = keep_book(piece, returns.iloc[test], costs)
        pieces.append(piece)
        rows.append(window_row(window, returns.index, grid[best], train_score, book))
        chosen = ", ".join(f"{name}={value}" for name, value in grid[best].items()) or "the only set"
        say(f"Window {number} of {len(windows)}: chose {chosen}, then made {rows[-1]['test_return']:+.1%}.")
    return pd.concat(pieces), rows


def windows_of(job: dict, days: int) -> list[Window]:
    lengths = job.get("walk_forward") or {}
    return split(days, int(lengths.get("train_days", 756)), int(lengths.get("test_days", 252)))


def window_row(window: Window, dates: pd.Index, parameters: Parameters, train_score: float, book: Book) -> dict:
    return {
        "train_from": str(dates[window.train_from].date()),
        "test_from": str(dates[window.test_from].date()),
        "test_to": str(dates[window.test_to - 1].date()),
        "parameters": dict(parameters),
        "train_sharpe": train_score,
        "test_sharpe": sharpe(book.net),
        "test_return": float(book.equity.iloc[-1]) - 1,
    }


def curve(book: Book, benchmark: Book) -> dict[str, list]:
    """At most MAX_POINTS days, evenly spread, the first and the last among them."""
    days = len(book.net)
    rows = np.unique(np.linspace(0, days - 1, min(days, MAX_POINTS)).round().astype(int))
    return {
        "dates": [str(date.date()) for date in book.net.index[rows]],
        "strategy": [float(value) for value in book.equity.iloc[rows]],
        "benchmark": [float(value) for value in benchmark.equity.iloc[rows]],
    }


def judged(held: pd.DataFrame, prices: pd.DataFrame, costs: Costs) -> dict[str, Any]:
    """Metrics and curves of the weights on their own days, beside buy and hold on the same."""
    # One day more than is held: the close before the first held day is what everything is bought at.
    first = prices.index.get_loc(held.index[0])
    own = prices.iloc[max(first - 1, 0) : first + len(held)]
    returns = own.pct_change(fill_method=None).fillna(0.0).loc[held.index]
    book = keep_book(held, returns, costs)
    whole = buy_and_hold(own, costs)
    days = slice(len(own) - len(held), None)
    benchmark = Book(**{name: getattr(whole, name).iloc[days] for name in Book.__dataclass_fields__})
    return {"metrics": metrics(book), "benchmark": metrics(benchmark), "curve": curve(book, benchmark)}


def run_fixed(strategy: Strategy, prices: pd.DataFrame, job: dict, costs: Costs) -> dict[str, Any]:
    held = decide(strategy, prices, job.get("parameters") or {}, job)
    full = judged(held, prices, costs)
    start = windows_of(job, len(prices))[0].test_from
    # The days a walk-forward is judged on too, so that both kinds compare.
    return {"full": full, "out_of_sample": judged(held.iloc[start:], prices, costs), "windows": []}


def run_walk_forward(strategy: Strategy, prices: pd.DataFrame, job: dict, costs: Costs) -> dict[str, Any]:
    grid = job["grid"]
    candidates = []
    for number, parameters in enumerate(grid, start=1):
        candidates.append(decide(strategy, prices, parameters, job))
        say(f"Parameter set {number} of {len(grid)} is computed.")
    returns = prices.pct_change(fill_method=None).fillna(0.0)
    held, rows = walk(candidates, grid, returns, costs, job)
    return {"full": None, "out_of_sample": judged(held, prices, costs), "windows": rows[-MAX_WINDOWS_LISTED:]}


def clean(value: Any) -> Any:
    """Only what JSON can say: numbers to eight digits, null for what is undefined."""
    if isinstance(value, dict):
        return {str(key): clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [clean(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value


def write_result(result: dict[str, Any], path: Path) -> None:
    content = json.dumps(clean(result), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    if len(content) > MAX_RESULT_BYTES:
        raise BadJob(f"The result has {len(content)} bytes, more than the {MAX_RESULT_BYTES} that are kept.")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def run(folder: Path) -> dict[str, Any]:
    """One backtest in one folder, its result written and returned."""
    job = read_job(folder / "job.json")
    prices = read_prices(folder / "prices.csv.gz", job.get("symbols") or [])
    first, last = prices.index[0].date(), prices.index[-1].date()
    say(f"{job['strategy']}: {prices.shape[1]} symbols, {len(prices)} days from {first} to {last}.")
    costs = read_costs(job.get("costs") or {"commission_bps": 1, "slippage_bps": 4})
    strategy = load_strategy(folder / "strategy.py")
    runner = run_fixed if job["kind"] == "fixed" else run_walk_forward
    outcome = runner(strategy, prices, job, costs)
    kept = {name: job.get(name) for name in ("key", "strategy", "kind", "symbols", "parameters", "costs")}
    result = {"version": 1, **kept, **outcome}
    write_result(result, folder / "artifacts" / "result.json")
    return result


def main(folder: Path) -> int:
    try:
        result = run(folder)
    except (BadStrategy, BadJob) as error:
        lines = getattr(error, "lines", "")
        sys.stderr.write(f"{error}\n" + (f"\n{lines}\n" if lines else ""))
        return 1 if isinstance(error, BadStrategy) else 2
    figures, idle = result["out_of_sample"]["metrics"], result["out_of_sample"]["benchmark"]
    ratio = "undefined" if math.isnan(figures["sharpe"]) else f"{figures['sharpe']:.2f}"
    say(
        f"Out of sample from {figures['first_day']}: {figures['cagr']:+.1%} a year (buy and hold {idle['cagr']:+.1%}), "
        f"Sharpe {ratio}, worst fall {figures['max_drawdown']:.1%}, costs included."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
