"""How values are written on pages: filters and tags every template has without loading them.

Numbers, money and times have one form each; a state has a shape, a word and a colour.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from django import template
from django.apps import apps
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe
from pygments import highlight as pygmentize
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from billing import amounts, pricing

register = template.Library()

MICRO = 1_000_000
NOTHING = "–"
# Of a credit, where less than one is spoken of.
FINE_PLACES = 4
NBSP = "\u00a0"
UUID_LIKE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# The shape of a mark, and every state of the glossary that wears it.
# ok = circle, busy = arrow, warn = triangle, err = square, idle = ring, drain = diamond.
MARKS: dict[str, str] = {
    "ok": "healthy ready succeeded active paid accepted approved available delivered acknowledged captured "
    "enabled online alive applied granted leader up resolved processed counted credited confirmed",
    "busy": "running starting creating building busy processing open voting assigned reserved resetting "
    "rebalancing joining electing created received seen sent",
    "warn": "degraded unavailable timed_out requires_action stale rejected warning undecided late_reply waiting",
    "err": "failed unhealthy lost dead overdue uncollectible suspended blocked down error invalid not_believed",
    "idle": "idle queued pending draft void cancelled expired gone aborted unknown closed released revoked "
    "disabled invited none offline ignored duplicate orphaned dismissed dropped scheduled",
    "drain": "draining drained cordoned paused held refunded evicted",
}
MARK_OF: dict[str, str] = {state: mark for mark, states in MARKS.items() for state in states.split()}


@register.filter
def number(value: int | float | Decimal | None) -> str:
    """1234567.5 -> 1,234,567.5"""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{Decimal(str(value)):,.2f}"
    return text.rstrip("0").rstrip(".")


@register.filter
def visible(text: object) -> str:
    """Untrusted text in one line as it is, not as it wants to look: line breaks and turned letters as codes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


@register.filter
def percent(share: float | None, places: int = 1) -> str:
    """A share of one: 0.989 -> 98.9 %"""
    if share is None or share == "":
        return NOTHING
    text = f"{float(share) * 100:.{places}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{text}{NBSP}%"


@register.filter
def percent_column(share: float | None, places: int = 1) -> str:
    """The same in a column of numbers, where every row shows as many places: -0.69 -> -69.0 %"""
    if share is None or share == "":
        return NOTHING
    return f"{float(share) * 100:.{places}f}{NBSP}%"


@register.filter
def credits(ucr: int | None, places: int | None = None) -> str:  # noqa: A001 - the word of the glossary
    """Micro-credits as credits: 184200000 -> 184.20 cr. Below one credit up to four places: 2667 -> 0.0027 cr."""
    if ucr is None or ucr == "":
        return NOTHING
    amount = Decimal(ucr) / MICRO
    return _credits_text(amount, _credit_places(amount) if places is None else int(places))


def _credit_places(amount: Decimal) -> int:
    """Two; below one credit up to four, and all six where four would say nothing."""
    if abs(amount) >= 1:
        return 2
    shown = round(amount, FINE_PLACES) or amount
    return max(2, -int(shown.normalize().as_tuple().exponent))


def _credits_text(amount: Decimal, places: int) -> str:
    return f"{round(amount, places):,f}{NBSP}cr"


@register.filter
def exact_credits(ucr: int | None) -> str:
    """Every place there is, at least two: what a page about one thing says, and every price. 2667 -> 0.002667 cr"""
    if ucr is None or ucr == "":
        return NOTHING
    amount = Decimal(ucr) / MICRO
    return _credits_text(amount, max(2, -int(amount.normalize().as_tuple().exponent)))


@register.filter
def credits_column(ucr: int | None, places: int = FINE_PLACES) -> str:
    """In a column every row has as many places, so that the points stand below each other: four where single things
    cost, two for balances and sums. The exact amount is the title where it says more."""
    if ucr is None or ucr == "":
        return NOTHING
    amount, least = Decimal(ucr) / MICRO, Decimal(1).scaleb(-places)
    if amount and not round(amount, places):
        text = f"{'<' if amount > 0 else '>'}{NBSP}{_credits_text(least.copy_sign(amount), places)}"
    else:
        text = _quiet_zeros(_credits_text(amount, places))
    if round(amount, places) == amount:
        return format_html("<span>{}</span>", text)
    return format_html('<span title="{}">{}</span>', exact_credits(ucr), text)


def _quiet_zeros(text: str) -> SafeString:
    """Those that stand there only to line up with other rows do not shout: 12.50<span>00</span> cr"""
    figure, _, unit = text.partition(NBSP)
    said = re.fullmatch(r"(.+\.[0-9]{2,}?)(0*)", figure)
    if said is None or not said[2]:
        return format_html("{}", text)
    return format_html('{}<span class="muted">{}</span>{}{}', said[1], said[2], NBSP, unit)


@register.filter
def money(amount: Decimal | str | int | None, currency: str = "EUR") -> str:
    """An amount in whole units of its currency: Decimal('1220') -> 1,220.00 EUR"""
    if amount is None or amount == "":
        return NOTHING
    rounded = Decimal(str(amount)).quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN)
    return f"{rounded:,f}{NBSP}{currency}"


@register.filter
def money_minor(amount: int | None, currency: str = "EUR") -> str:
    """An amount in the currency's smallest unit: 122000 -> 1,220.00 EUR"""
    if amount is None or amount == "":
        return NOTHING
    return f"{Decimal(amounts.money_text(amount, currency)):,f}{NBSP}{currency}"


@register.filter
def usdc(units: int) -> str:
    """Atomic units: 12500000 -> 12.50 USDC"""
    return f"{amounts.usdc_text(units)}{NBSP}USDC"


@register.filter
def bytesize(count: int | None) -> str:
    """1536 -> 1.5 KiB"""
    if count is None or count == "":
        return NOTHING
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return _sized(size, unit)
        size /= 1024
    return _sized(size, "TiB")


def _sized(size: float, unit: str) -> str:
    text = f"{size:.0f}" if unit == "B" or size >= 100 else f"{size:.1f}".removesuffix(".0")
    return f"{text}{NBSP}{unit}"


@register.filter
def duration(seconds: float | timedelta | None) -> str:
    """0.34 -> 340 ms, 102 -> 1 m 42 s, 11100 -> 3 h 05 m"""
    if seconds is None or seconds == "":
        return NOTHING
    total = seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
    if total < 0:
        return "−" + duration(-total)
    text = _short_duration(total) if round(total) < 60 else _long_duration(round(total))
    return text.replace(" ", NBSP)


def _short_duration(total: float) -> str:
    if total == 0:
        return "0 s"
    if total < 0.9995:
        return f"{total * 1000:.3g} ms" if total < 0.0995 else f"{total * 1000:.0f} ms"
    return f"{total:.1f}".removesuffix(".0") + " s" if total < 9.95 else f"{total:.0f} s"


def _long_duration(total: int) -> str:
    minutes, secs = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes:02} m"
    return f"{minutes} m {secs:02} s"


@register.filter
def milliseconds(ms: float | None) -> str:
    """A duration counted in milliseconds."""
    return NOTHING if ms is None or ms == "" else duration(float(ms) / 1000)


@register.filter
def ago(moment: datetime | None) -> str:
    """A <time> that says how long ago (or in how long); the browser keeps it true."""
    if not moment:
        return NOTHING
    return _time_tag(moment, _distance(moment, timezone.now()), "data-ago")


@register.filter
def clock(moment: datetime | None) -> str:
    """A <time> as 26 Nov 2026, 21:33:43, shown in the reader's zone where scripts run, else in UTC."""
    if not moment:
        return NOTHING
    return _time_tag(moment, _clock_text(moment), "data-clock")


def _time_tag(moment: datetime, words: str, kind: str) -> SafeString:
    utc = moment.astimezone(UTC)
    # The attribute's name is one of our own two words, never input.
    return format_html(
        '<time datetime="{}" title="{}" {}>{}</time>',
        utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        _clock_text(utc),
        kind,
        words,
    )


def _clock_text(moment: datetime) -> str:
    """Dates read the same everywhere: on pages, invoices and in mails."""
    utc = moment.astimezone(UTC)
    return f"{utc.day} {utc:%b %Y, %H:%M:%S} UTC"


def _distance(moment: datetime, now: datetime) -> str:
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    text = _rough(abs(seconds))
    return f"{text}{NBSP}ago" if seconds > 0 else f"in{NBSP}{text}"


def _rough(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)}{NBSP}{unit}"
    return f"{int(seconds)}{NBSP}s"


@register.simple_tag
def server_time() -> str:
    """The server's clock, so that the browser's relative times agree with it."""
    return timezone.now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@register.filter
def mark(state: object) -> str:
    """The shape a state wears: ok, busy, warn, err, idle or drain."""
    return MARK_OF.get(str(state or "unknown").lower(), "idle")


@register.filter
def state_word(state: object) -> str:
    """timed_out -> Timed out"""
    word = str(state or "unknown")
    return "MCP" if word == "mcp" else word.replace("_", " ").replace("-", " ").capitalize()


@register.filter
def meter_word(meter: object) -> str:
    """agent_second -> Agent time"""
    price = pricing.DEFAULT_BOOK.get(str(meter))
    return price.name if price else state_word(meter)


@register.filter
def ledger_word(code: object) -> str:
    """An account of the ledger: revenue:agent_second -> Revenue: Agent time"""
    kind, _, meter = str(code).partition(":")
    return f"{state_word(kind)}: {meter_word(meter)}" if meter else state_word(kind)


@register.simple_tag
def status(state: object, label: str = "") -> SafeString:
    """A chip with shape and word: {% status execution.state %}"""
    return format_html('<span class="st st-{}">{}</span>', mark(state), label or state_word(state))


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """An icon of static/icons.svg; say a label only where no text stands beside it."""
    address = f"{static('icons.svg')}#{name}"
    if label:
        return format_html(
            '<svg class="icon" role="img" aria-label="{}"><use href="{}"></use></svg>',
            label,
            address,
        )
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}"></use></svg>', address)


@register.simple_tag
def sparkline(values: Iterable[float | None], label: str = "", kind: str = "accent") -> SafeString:
    """A line the height of a word. Nothing is drawn through missing values or fewer than two points."""
    points = [float(value) for value in values or () if value is not None]
    if len(points) < 2:
        return mark_safe('<svg class="spark" viewBox="0 0 100 24" aria-hidden="true"></svg>')
    low, high = min(points), max(points)
    span, step = (high - low) or 1, 100 / (len(points) - 1)
    line = " ".join(f"{i * step:.1f},{22 - (p - low) / span * 20:.1f}" for i, p in enumerate(points))
    return format_html(
        '<svg class="spark spark-{}" viewBox="0 0 100 24" preserveAspectRatio="none" {}>'
        '<polygon points="0,24 {} 100,24"></polygon><polyline points="{}"></polyline></svg>',
        kind,
        _spoken(label),
        line,
        line,
    )


@register.simple_tag
def bar(value: float | None, most: float | None = 1, label: str = "", kind: str = "accent") -> SafeString:
    """How much of the most: {% bar used limit label="Memory" %}"""
    share = min(max(float(value or 0) / float(most or 1), 0), 1) * 100
    return format_html(
        '<svg class="bar bar-{}" viewBox="0 0 100 4" preserveAspectRatio="none" {}>'
        '<rect width="{}" height="4"></rect></svg>',
        kind,
        _spoken(f"{label} {share:.0f} %" if label else ""),
        f"{share:.2f}",
    )


def _spoken(label: str) -> SafeString:
    if not label:
        return mark_safe('aria-hidden="true"')
    return format_html('role="img" aria-label="{}"', label.strip())


@register.filter
def highlight(source: str, language: str = "python") -> SafeString:
    """Source code as coloured spans (class names only), for inside <pre class="code">."""
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    return mark_safe(pygmentize(source or "", lexer, HtmlFormatter(nowrap=True)))  # noqa: S308 - pygments escapes


@register.simple_tag(takes_context=True)
def address(context: template.Context, name: str, *args: object) -> str:
    """The URL of a page by name, inside the current account where it lives there; "" when there is no such page."""
    account = context.get("account")
    for tried in ((account, *args), args) if account else (args,):
        try:
            return reverse(name, args=tried)
        except NoReverseMatch:
            continue
    return ""


@register.simple_tag(takes_context=True)
def agent(context: template.Context, text: str) -> str:
    """What a usage or an execution says of its agent: a link with the name where it is an agent of this account."""
    known = context.render_context.setdefault("agents", {})
    if text not in known:
        known[text] = _agent_name(context.get("account"), text)
    url = address(context, "federation:agent", text) if known[text] else ""
    return format_html('<a href="{}">{}</a>', url, known[text]) if url else conditional_escape(text)


def _agent_name(account: object, text: str) -> str:
    if account is None or not UUID_LIKE.fullmatch(text):
        return ""
    ours = apps.get_model("federation", "Agent").objects.filter(federation__account=account, pk=text)
    return ours.values_list("name", flat=True).first() or ""


@register.inclusion_tag("_nav_link.html", takes_context=True)
def nav_link(
    context: template.Context,
    name: str,
    label: str,
    picture: str,
    key: str = "",
    *,
    also: str = "",
    exact: bool = False,
    boost: bool = True,
) -> dict[str, object]:
    """One line of the navigation, left out when the page does not exist; key is its `g` shortcut.

    `also` names pages that belong under it and have addresses elsewhere.
    """
    url = address(context, name)
    path = getattr(context.get("request"), "path", "")
    elsewhere = tuple(filter(None, (address(context, each) for each in also.split())))
    current = bool(url) and (path == url or path.startswith(elsewhere if exact else (*elsewhere, url)))
    return {
        "url": url,
        "elsewhere": " ".join(elsewhere),
        "label": label,
        "picture": picture,
        "key": key,
        "current": current,
        "boost": boost,
    }
