"""Pure. Equity curves as one inline SVG that needs no script and no style attribute.

Colours come from the page's stylesheet through the classes `chart-line-1` .. `chart-line-6`; without one every
line has the text's colour. Lines differ by dash pattern too, and the legend says which is which, so colour is
never the only sign. The scale is logarithmic, where the same slope is the same growth.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

DASHES = ("", "7 4", "2 3", "10 3 2 3", "14 4", "4 2 1 2 1 2")
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 22
LEGEND_ROW = 20
CHARACTER = 7  # a generous width, so that legend words do not run into each other


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    dates: Sequence[date]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a date and a value lie on the drawing."""

    width: int
    height: int
    first: int
    last: int
    low: float
    high: float

    def x(self, day: int) -> float:
        share = (day - self.first) / max(self.last - self.first, 1)
        return round(LEFT + share * (self.width - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.height - BOTTOM - share * (self.height - TOP - BOTTOM), 1)


def equity_chart(curves: Sequence[Curve], *, title: str, chart_id: str, width: int = 720, height: int = 280) -> str:
    """The `<svg>` element; every text in it is escaped. `chart_id` must be unique on the page."""
    _check(curves)
    frame = _frame(curves, width, height)
    legend, rows = _legend(curves, width, height)
    name = escape(chart_id)
    parts = (
        f'<svg class="chart" viewBox="0 0 {width} {height + rows * LEGEND_ROW}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc" xmlns="http://www.w3.org/2000/svg">',
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-desc">{escape(description(curves))}</desc>',
        *_value_ticks(frame),
        *_date_ticks(frame),
        *(_line(curve, frame, number) for number, curve in enumerate(curves)),
        *legend,
        "</svg>",
    )
    return "".join(parts)


def sparkline(values: Sequence[float], *, title: str, width: int = 96, height: int = 24) -> str:
    """One small line for a table row, with words for those who cannot see it."""
    if len(values) < 2 or min(values) <= 0:
        raise ValueError("A sparkline needs at least two values above zero.")
    low, high = min(values), max(values)
    spread = math.log(high / low) or 1.0
    steps = (
        f"{round(1 + place * (width - 2) / (len(values) - 1), 1):g},"
        f"{round(height - 1 - math.log(value / low) / spread * (height - 2), 1):g}"
        for place, value in enumerate(values)
    )
    return (
        f'<svg class="sparkline" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>'
        f'<polyline {_stroke(0)} points="{" ".join(steps)}"/></svg>'
    )


def description(curves: Sequence[Curve]) -> str:
    """What the picture shows, in words."""
    first = min(curve.dates[0] for curve in curves)
    last = max(curve.dates[-1] for curve in curves)
    ends = "; ".join(f"{curve.name} from {curve.values[0]:.2f} to {curve.values[-1]:.2f}" for curve in curves)
    return f"Growth of the starting capital between {first} and {last}, logarithmic scale: {ends}."


def _check(curves: Sequence[Curve]) -> None:
    if not 1 <= len(curves) <= len(DASHES):
        raise ValueError(f"A chart shows 1 to {len(DASHES)} curves; more cannot be told apart.")
    for curve in curves:
        if not curve.dates or len(curve.dates) != len(curve.values):
            raise ValueError(f"{curve.name} needs one value for each date.")
        if min(curve.values) <= 0:
            raise ValueError(f"{curve.name} has a value that is not above zero, which a logarithmic scale cannot show.")


def _frame(curves: Sequence[Curve], width: int, height: int) -> Frame:
    low = min(min(curve.values) for curve in curves)
    high = max(max(curve.values) for curve in curves)
    # A flat line would have no height to be drawn in.
    margin = max((high / low) ** 0.04, 1.01)
    first = min(curve.dates[0] for curve in curves).toordinal()
    last = max(curve.dates[-1] for curve in curves).toordinal()
    return Frame(width, height, first, last, low / margin, high * margin)


def _value_ticks(frame: Frame) -> Iterator[str]:
    for value in value_ticks(frame.low, frame.high):
        y = frame.y(value)
        yield (
            f'<line class="chart-grid" x1="{LEFT}" x2="{frame.width - RIGHT}" y1="{y:g}" y2="{y:g}" '
            f'stroke="currentColor" stroke-opacity=".15"/>'
            f'<text class="chart-tick" x="{LEFT - 6}" y="{y + 4:g}" text-anchor="end" font-size="11" '
            f'fill="currentColor">{value:g}\N{MULTIPLICATION SIGN}</text>'
        )


def value_ticks(low: float, high: float) -> list[float]:
    """Three to seven round values between the ends; even steps when less than a doubling is shown."""
    if high / low < 2.5:
        step = _round_up((high - low) / 5)
        first = math.ceil(low / step)
        return [round(number * step, 10) for number in range(first, int(high / step) + 1)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= 7:
            return inside
    return inside[:: math.ceil(len(inside) / 7)]


def _round_up(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= step * 0.999999)


def _date_ticks(frame: Frame) -> Iterator[str]:
    for day, label in date_ticks(date.fromordinal(frame.first), date.fromordinal(frame.last)):
        yield (
            f'<text class="chart-tick" x="{frame.x(day.toordinal()):g}" y="{frame.height - 6}" '
            f'text-anchor="middle" font-size="11" fill="currentColor">{label}</text>'
        )


def date_ticks(first: date, last: date) -> list[tuple[date, str]]:
    """Years where at least three begin in between, else the two ends."""
    years = [date(year, 1, 1) for year in range(first.year + 1, last.year + 1)]
    if len(years) < 3:
        return [(first, first.isoformat()), (last, last.isoformat())] if first < last else [(first, first.isoformat())]
    every = math.ceil(len(years) / 8)
    return [(year, str(year.year)) for year in years[::every]]


def _line(curve: Curve, frame: Frame, number: int) -> str:
    points = " ".join(
        f"{frame.x(day.toordinal()):g},{frame.y(value):g}" for day, value in zip(curve.dates, curve.values, strict=True)
    )
    return f'<polyline {_stroke(number)} points="{points}"/>'


def _stroke(number: int) -> str:
    dash = f' stroke-dasharray="{DASHES[number]}"' if DASHES[number] else ""
    return (
        f'class="chart-line chart-line-{number + 1}" fill="none" stroke="currentColor" stroke-width="1.5" '
        f'stroke-linejoin="round"{dash}'
    )


def _legend(curves: Sequence[Curve], width: int, height: int) -> tuple[list[str], int]:
    """A stretch of each line beside its name, in as many rows as the words need."""
    parts, x, row = [], LEFT, 1
    for number, curve in enumerate(curves):
        needed = 44 + len(curve.name) * CHARACTER
        if x > LEFT and x + needed > width - RIGHT:
            x, row = LEFT, row + 1
        y = height + row * LEGEND_ROW - 8
        parts.append(
            f'<line {_stroke(number)} x1="{x}" x2="{x + 30}" y1="{y}" y2="{y}"/>'
            f'<text class="chart-legend" x="{x + 36}" y="{y + 4}" font-size="12" fill="currentColor">'
            f"{escape(curve.name)}</text>"
        )
        x += needed + 8
    return parts, row
