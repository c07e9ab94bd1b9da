"""Charts are true to their values, safe to put on a page, and readable without colours."""

import re
from datetime import date, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.sample import svg

SVG = "{http://www.w3.org/2000/svg}"


def curve(name="momentum", values=(1.0, 2.0, 4.0), start=date(2003, 1, 1), every=400):
    return svg.Curve(name, [start + timedelta(days=every * number) for number in range(len(values))], list(values))


def draw(*curves):
    return svg.equity_chart(curves, title="Equity", chart_id="equity")


def lines(drawing):
    root = ElementTree.fromstring(drawing)
    return [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in root.iter(f"{SVG}polyline")
    ]


def test_equal_growth_is_an_equal_step_upwards():
    ((first, second, third),) = lines(draw(curve()))

    assert first[1] - second[1] == pytest.approx(second[1] - third[1], abs=0.2)
    assert first[0] < second[0] < third[0]


def test_curves_share_their_axes():
    low, high = lines(draw(curve("a", (1, 1, 1)), curve("b", (1, 2, 3))))

    assert low[0] == high[0]
    assert high[2][1] < low[2][1]


def test_lines_differ_by_more_than_colour_and_the_legend_names_them():
    drawing = draw(*(curve(f"strategy {number}") for number in range(6)))

    dashes = re.findall(r"<polyline [^>]*?(?:stroke-dasharray=\"([^\"]*)\")? points", drawing)
    assert len(set(dashes)) == 6
    words = [
        text.text for text in ElementTree.fromstring(drawing).iter(f"{SVG}text") if text.get("class") == "chart-legend"
    ]
    assert words == [f"strategy {number}" for number in range(6)]


def test_the_legend_wraps_instead_of_leaving_the_drawing():
    root = ElementTree.fromstring(draw(*(curve(f"a rather long strategy name {number}") for number in range(6))))

    legend = [text for text in root.iter(f"{SVG}text") if text.get("class") == "chart-legend"]
    assert len({text.get("y") for text in legend}) > 1
    assert max(float(text.get("y")) for text in legend) < float(root.get("viewBox").split()[3])


def test_the_picture_is_told_in_words_too():
    root = ElementTree.fromstring(draw(curve()))

    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "equity-title equity-desc"
    assert root.find(f"{SVG}title").text == "Equity"
    assert "momentum from 1.00 to 4.00" in root.find(f"{SVG}desc").text


def test_nothing_needs_a_style_attribute_a_script_or_a_fixed_colour():
    drawing = draw(curve(), curve("b"))

    assert not re.search(r"style=|<script|<style| on\w+=|#[0-9a-f]{3}", drawing)
    assert set(re.findall(r'(?:stroke|fill)="([^"]+)"', drawing)) == {"currentColor", "none"}


def test_names_cannot_break_out_of_the_text():
    hostile = '"><script>alert(1)</script>&'
    drawing = svg.equity_chart([curve(hostile)], title=hostile, chart_id='x" onload="y')

    ElementTree.fromstring(drawing)
    assert "<script" not in drawing
    assert ' onload="' not in drawing


@pytest.mark.parametrize(
    "curves",
    [
        (),
        tuple(curve() for _ in range(7)),
        (curve(values=()),),
        (curve(values=(1, 0)),),
        (svg.Curve("a", [date.today()], [1, 2]),),
    ],
)
def test_what_cannot_be_drawn_is_refused(curves):
    with pytest.raises(ValueError, match="curves|value"):
        draw(*curves)


@pytest.mark.parametrize("values", [(1.0,), (1.0, 1.0), (1.0, 1.0000001), (1e-6, 1e6)])
def test_flat_and_steep_curves_can_be_drawn(values):
    for x, y in lines(draw(curve(values=values)))[0]:
        assert 0 <= x <= 720
        assert 0 <= y <= 280


@given(low=st.floats(0.001, 1000), ratio=st.floats(1.02, 1e6))
def test_there_are_a_few_round_ticks_inside_any_range(low, ratio):
    ticks = svg.value_ticks(low, low * ratio)

    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    assert all(low * 0.999 <= tick <= low * ratio * 1.001 for tick in ticks)


@given(first=st.dates(date(1990, 1, 1), date(2030, 1, 1)), length=st.integers(0, 15_000))
def test_dates_are_few_and_inside_the_range(first, length):
    last = first + timedelta(days=length)

    ticks = svg.date_ticks(first, last)

    assert 1 <= len(ticks) <= 8
    assert all(first <= day <= last for day, _ in ticks)


def test_a_sparkline_has_words_and_stays_inside_its_box():
    drawing = svg.sparkline([1.0, 3.0, 2.0], title="momentum: grew to 2.00")

    assert ElementTree.fromstring(drawing).find(f"{SVG}title").text == "momentum: grew to 2.00"
    assert all(0 <= x <= 96 and 0 <= y <= 24 for x, y in lines(drawing)[0])


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 0.0]])
def test_a_sparkline_needs_two_values_above_zero(values):
    with pytest.raises(ValueError, match="at least two"):
        svg.sparkline(values, title="x")
