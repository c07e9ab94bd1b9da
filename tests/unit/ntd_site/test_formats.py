from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.template import Context, Engine
from django.utils import timezone
from django.utils.html import escape

from ntd_site import formats

# Every state the glossary and the API promise.
GLOSSARY = """
creating ready reserved running resetting failed gone queued starting succeeded timed_out cancelled
building draining idle busy unavailable lost assigned expired dead open accepted rejected aborted
draft paid void uncollectible overdue created requires_action processing unknown healthy degraded
unhealthy pending refunded active suspended closed revoked
"""
NOON = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def spaced(text: str) -> str:
    return text.replace("\u00a0", " ")


def render(source: str, **context: object) -> str:
    engine = Engine(builtins=["ntd_site.formats"], libraries={})
    return engine.from_string(source).render(Context(context))


@pytest.fixture
def noon(monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: NOON)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234567, "1,234,567"),
        (-1200, "-1,200"),
        (1234.5, "1,234.5"),
        (Decimal("10.00"), "10"),
        (None, "–"),
    ],
)
def test_a_number_has_thousands_and_no_idle_zeros(value, text):
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.989, "98.9 %"), (1, "100 %"), (0.5, "50 %"), (None, "–")],
)
def test_a_share_of_one_reads_as_percent(share, text):
    assert spaced(formats.percent(share)) == text


@pytest.mark.parametrize(
    ("share", "places", "text"),
    [(-0.69, 1, "-69.0 %"), (0.004, 2, "0.40 %"), (0, 1, "0.0 %"), (None, 1, "–")],
)
def test_a_column_of_percents_shows_as_many_places_in_every_row(share, places, text):
    assert spaced(formats.percent_column(share, places)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("equity ü 🙂.csv", "equity ü 🙂.csv"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("a\nb\t\x1b[1m", "a\\nb\\t\\x1b[1m"),
        ("<b>", "<b>"),
    ],
)
def test_what_is_not_seen_is_shown_as_a_code(text, shown):
    assert formats.visible(text) == shown


@pytest.mark.parametrize("text", ["alpha", "<b>alpha</b>", "0198"])
def test_an_agent_that_is_no_id_reads_as_it_was_given(text):
    assert render("{% agent text %}", text=text, account=None) == escape(text)


@pytest.mark.parametrize(
    ("ucr", "text"),
    [
        (0, "0.00 cr"),
        (184_200_000, "184.20 cr"),
        (4_218_400_000, "4,218.40 cr"),
        (840_000, "0.84 cr"),
        (12_300, "0.0123 cr"),
        (2_667, "0.0027 cr"),
        (999_999, "1.00 cr"),
        (1, "0.000001 cr"),
        (-36_200_000, "-36.20 cr"),
        (1_005_000, "1.00 cr"),
        (1_015_000, "1.02 cr"),
        (10**15, "1,000,000,000.00 cr"),
        (None, "–"),
    ],
)
def test_micro_credits_read_as_credits(ucr, text):
    assert spaced(formats.credits(ucr)) == text


def test_credits_can_be_held_to_fixed_places():
    assert spaced(formats.credits(1_500_000, 6)) == "1.500000 cr"


@pytest.mark.parametrize(
    ("ucr", "places", "text", "title"),
    [
        (2_667, 4, "0.0027 cr", "0.002667 cr"),
        (12_500_000, 4, '12.50<span class="muted">00</span> cr', ""),
        (416_667, 2, "0.42 cr", "0.416667 cr"),
        (0, 4, '0.00<span class="muted">00</span> cr', ""),
        (12, 4, "&lt; 0.0001 cr", "0.000012 cr"),
        (-12, 2, "&gt; -0.01 cr", "-0.000012 cr"),
        (1_234_567_890_000, 2, "1,234,567.89 cr", ""),
        (None, 4, "–", ""),
    ],
)
def test_in_a_column_every_row_has_as_many_places_and_says_the_rest_in_its_title(ucr, places, text, title):
    shown = spaced(render("{{ ucr|credits_column:places }}", ucr=ucr, places=places))

    about = f' title="{title}"' if title else ""
    assert shown == (text if ucr is None else f"<span{about}>{text}</span>")


@pytest.mark.parametrize(("ucr", "text"), [(1_255_000, "1.255 cr"), (2_667, "0.002667 cr"), (10**8, "100.00 cr")])
def test_a_price_and_what_one_thing_cost_keep_every_place(ucr, text):
    assert spaced(formats.exact_credits(ucr)) == text


def test_money_has_two_places_and_its_currency():
    assert spaced(formats.money(Decimal("1220"))) == "1,220.00 EUR"
    assert spaced(formats.money("0.005", "USD")) == "0.00 USD"
    assert spaced(formats.money_minor(122050)) == "1,220.50 EUR"
    assert formats.money(None) == formats.money_minor(None) == "–"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (512 * 1024**2, "512 MiB"),
        (3 * 1024**4, "3 TiB"),
        (None, "–"),
    ],
)
def test_bytes_read_in_binary_units(count, text):
    assert spaced(formats.bytesize(count)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0034, "3.4 ms"),
        (0.34, "340 ms"),
        (1.34, "1.3 s"),
        (42, "42 s"),
        (59.7, "1 m 00 s"),
        (102, "1 m 42 s"),
        (11_100, "3 h 05 m"),
        (86_400, "1 d"),
        (187_200, "2 d 4 h"),
        (-5, "−5 s"),
        (timedelta(minutes=2), "2 m 00 s"),
        (None, "–"),
    ],
)
def test_a_duration_shows_its_two_largest_units(seconds, text):
    assert spaced(formats.duration(seconds)) == text


def test_milliseconds_read_as_a_duration():
    assert spaced(formats.milliseconds(1340)) == "1.3 s"
    assert formats.milliseconds(None) == "–"


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (NOON, "now"),
        (NOON - timedelta(seconds=31), "31 s ago"),
        (NOON - timedelta(minutes=3, seconds=59), "3 min ago"),
        (NOON - timedelta(hours=5), "5 h ago"),
        (NOON - timedelta(days=40), "40 d ago"),
        (NOON + timedelta(minutes=2), "in 2 min"),
    ],
)
def test_a_moment_says_how_long_ago_by_the_servers_clock(noon, moment, words):
    assert f">{words}</time>" in spaced(formats.ago(moment))


def test_a_moment_carries_its_exact_time_in_utc(noon):
    moment = datetime.fromisoformat("2026-11-24T13:30:00+02:00")

    tag = formats.ago(moment)

    assert 'datetime="2026-11-24T11:30:00.000Z"' in tag
    assert 'title="24 Nov 2026, 11:30:00 UTC"' in tag
    assert "data-ago" in tag


def test_a_clock_time_is_whole_without_scripts(noon):
    assert formats.clock(NOON).endswith(" data-clock>24 Nov 2026, 12:00:00 UTC</time>")


def test_no_moment_is_a_dash():
    assert formats.ago(None) == formats.clock(None) == "–"


def test_every_state_wears_exactly_one_shape():
    states = [state for group in formats.MARKS.values() for state in group.split()]

    assert len(states) == len(set(states))


@pytest.mark.parametrize("state", GLOSSARY.split())
def test_every_state_of_the_glossary_is_known(state):
    assert state in formats.MARK_OF


def test_a_status_has_a_shape_and_a_word():
    assert render("{% status state %}", state="timed_out") == ('<span class="st st-warn">Timed out</span>')


def test_a_status_can_be_worded_otherwise():
    assert ">Voting</span>" in render('{% status "open" "Voting" %}')


def test_an_unheard_of_state_is_a_ring_and_cannot_inject():
    assert render("{% status state %}", state="<b>odd</b>") == (
        '<span class="st st-idle">&lt;b&gt;odd&lt;/b&gt;</span>'
    )


def test_an_icon_is_silent_unless_it_stands_alone():
    assert 'aria-hidden="true"' in render('{% icon "play" %}')
    assert 'role="img" aria-label="Play"' in render('{% icon "play" "Play" %}')


def test_a_sparkline_spans_its_box():
    svg = render("{% sparkline values %}", values=[0, 5, 10])

    assert 'points="0.0,22.0 50.0,12.0 100.0,2.0"' in svg


@pytest.mark.parametrize("values", [None, [], [1], [None, None]])
def test_a_sparkline_of_too_few_points_is_empty(values):
    assert "polyline" not in render("{% sparkline values %}", values=values)


def test_a_flat_sparkline_does_not_divide_by_zero():
    assert "polyline" in render("{% sparkline values %}", values=[3, 3])


@pytest.mark.parametrize(
    ("value", "most", "width"),
    [
        (1, 4, "25.00"),
        (9, 4, "100.00"),
        (-1, 4, "0.00"),
        (None, 4, "0.00"),
        (1, 0, "100.00"),
    ],
)
def test_a_bar_stays_within_its_bounds(value, most, width):
    assert f'<rect width="{width}"' in render("{% bar value most %}", value=value, most=most)


def test_a_bar_can_say_what_it_shows():
    svg = render('{% bar 1 4 label="Memory" %}')

    assert 'aria-label="Memory 25 %"' in svg


def test_source_code_is_coloured_and_escaped():
    html = formats.highlight("x = '<script>'", "python")

    assert "&lt;script&gt;" in html
    assert 'class="' in html


def test_source_in_an_unknown_language_is_plain():
    assert formats.highlight("<b>", "klingon").strip() == "&lt;b&gt;"


def test_the_address_of_a_missing_page_is_empty():
    assert render('{% address "no-such-page" as url %}[{{ url }}]') == "[]"


def test_a_nav_line_of_a_missing_page_is_left_out():
    context = Context({"account": None, "request": SimpleNamespace(path="/")})

    assert formats.nav_link(context, "no-such-page", "Nowhere", "x")["url"] == ""


@pytest.mark.parametrize(
    ("path", "exact", "current"),
    [
        ("/o/acme/billing/", False, True),
        ("/o/acme/billing/usage/", False, True),
        ("/o/acme/billing/usage/", True, False),
        ("/o/acme/", False, False),
    ],
)
def test_a_nav_line_is_current_on_its_page_and_below(monkeypatch, path, exact, current):
    monkeypatch.setattr(formats, "reverse", lambda name, args: "/o/acme/billing/")
    context = Context({"account": "acme", "request": SimpleNamespace(path=path)})

    line = formats.nav_link(context, "billing:overview", "Credits", "coins", exact=exact)

    assert line["current"] is current


def test_a_nav_line_is_current_on_pages_that_belong_under_it(monkeypatch):
    monkeypatch.setattr(formats, "reverse", lambda name, args: f"/o/acme/{name}/")
    context = Context({"account": "acme", "request": SimpleNamespace(path="/o/acme/books/")})

    current = [
        formats.nav_link(context, "accounts", "Money", "coins", also=also)["current"] for also in ("books x", "")
    ]

    assert current == [True, False]


@pytest.mark.parametrize(
    ("code", "text"),
    [("revenue:agent_second", "Revenue: Agent time"), ("promo", "Promo"), ("revenue:no_such", "Revenue: No such")],
)
def test_accounts_of_the_ledger_and_meters_have_words(code, text):
    assert formats.ledger_word(code) == text
