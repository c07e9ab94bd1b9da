from billing import charts

NAMES = {"mcp_call": "MCP calls", "inference": "Inferences"}


def test_parts_of_a_day_stand_on_each_other_and_the_highest_day_fills_the_box():
    bars = charts.stack(
        [("1 Mar", {"mcp_call": 30, "inference": 70}), ("2 Mar", {"inference": 50})], names=NAMES, unit=1
    )

    assert [(part.hue, part.y, part.height) for part in bars.parts] == [(0, 70, 30), (1, 0, 70), (1, 50, 50)]
    assert bars.most == 100
    assert bars.parts[0].title == "1 Mar: MCP calls 30.00 cr"


def test_bars_share_the_width():
    bars = charts.stack([(str(day), {"mcp_call": 1}) for day in range(4)], names=NAMES, unit=1)

    assert [part.x for part in bars.parts] == [3.125, 28.125, 53.125, 78.125]


def test_nothing_used_draws_nothing():
    assert charts.stack([("1 Mar", {})], names=NAMES, unit=1) == charts.Bars((), 0)
    assert charts.stack([], names=NAMES, unit=1) == charts.Bars((), 0)
