"""What every template and vendored file must hold, checked without rendering a page."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest
from django.template import Engine

ROOT = Path(__file__).parents[3]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
STATIC = ROOT / "static"

BANNED = {
    "an inline style": r"""\sstyle\s*=\s*["']""",
    "an inline event handler": r"""\son[a-z]+\s*=\s*["']""",
    "an inline script": r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>",
    "hx-on": r"\bhx-on[:\s=-]",
    "a trigger filter, which needs eval": r"""hx-trigger=["'][^"']*\[""",
    "a script address": r"javascript:|\bjs:",
    "an asset of another origin": r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']https?:""",
    "htmx 2's disabled-elt or ext": r"\bhx-disabled-elt\b|\bhx-ext\b",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_a_template_obeys_the_content_policy(path):
    text = path.read_text()

    found = [what for what, pattern in BANNED.items() if re.search(pattern, text)]

    assert found == []


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_a_template_compiles(path):
    engine = Engine(
        dirs=[ROOT / "templates"],
        builtins=["django.templatetags.static", "ntd_site.formats"],
        libraries={
            "static": "django.templatetags.static",
            "i18n": "django.templatetags.i18n",
            "tz": "django.templatetags.tz",
        },
    )

    engine.get_template(str(path.relative_to(ROOT / "templates")))


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_a_comment_on_one_line_ends_on_it(path):
    opened = [line for line in path.read_text().splitlines() if "{#" in line and "#}" not in line]

    assert opened == []


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_every_icon_named_is_in_the_sprite(path):
    sprite = set(re.findall(r'<symbol id="([\w-]+)"', (STATIC / "icons.svg").read_text()))
    text = path.read_text()
    named = re.findall(r"""\{% icon ["']([\w-]+)["']""", text)
    named += re.findall(r"""picture=["']([\w-]+)["']""", text)
    named += re.findall(r"""\{% nav_link "[^"]+" "[^"]+" "([\w-]+)\"""", text)

    assert set(named) <= sprite


def test_vendored_files_are_the_ones_written_down():
    vendor = STATIC / "vendor"
    rows = json.loads((vendor / "VENDOR.json").read_text())["files"]

    for row in rows:
        found = hashlib.sha256((vendor / row["file"]).read_bytes()).hexdigest()
        assert found == row["sha256"], row["file"]
        assert (vendor / row["licence_file"]).is_file()
    kept = {path.name for path in vendor.iterdir() if path.is_file()} - {"VENDOR.json"}
    assert kept <= {row["file"] for row in rows}


@pytest.mark.parametrize(
    ("file", "most"),
    [
        ("css/app.css", 14_000),
        ("js/app.js", 9_000),
        ("js/live.js", 4_000),
        ("js/topology.js", 8_000),
    ],
)
def test_a_page_stays_light(file, most):
    assert len(gzip.compress((STATIC / file).read_bytes(), 9)) <= most


def test_our_scripts_never_make_html_from_text():
    for path in (STATIC / "js").glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML\s*=|insertAdjacentHTML|\beval\(", path.read_text())


def test_the_stylesheet_names_its_layers_in_order():
    first = (STATIC / "css/app.css").read_text().splitlines()[0]

    assert first == "@layer reset, tokens, base, layout, components, utilities;"
