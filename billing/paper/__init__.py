"""Documents as PDF, set by Typst from document.typ: one library of its own, no system libraries, no system fonts.

What customers wrote reaches the template as data (JSON), so none of it is ever read as markup. The fonts are the Noto
families of two packages: Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian, Georgian, Ethiopic, Thai, Lao, Khmer,
Myanmar, the scripts of India and Sri Lanka, symbols, and Chinese, Japanese and Korean.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from billing.documents import Document

if TYPE_CHECKING:
    import typst

TEMPLATE = Path(__file__).parent / "document.typ"
FONT_PACKAGES = ("manimgx_fonts", "manimgx_fonts_cjk")
# A run without a space that is longer than this may be broken in pieces, so that no name leaves its column.
LONGEST_WORD, PIECE = 24, 8
ZERO_WIDTH_SPACE = "\u200b"
# Which of the Han faces a reader expects; the others share their code points.
HAN = {"ja": "JP", "ko": "KR", "zh-tw": "TC", "zh-hant": "TC", "zh-hk": "HK", "zh": "SC"}


def pdf(document: Document) -> bytes:
    """The document as PDF. The same document is the same file, byte for byte."""
    import typst  # several megabytes, which only the process that prints needs

    said = _printable(document.as_dict())
    said["han"] = _han(document.language)
    made = typst.compile(
        TEMPLATE.read_bytes(),
        font_paths=_fonts(),
        sys_inputs={"document": json.dumps(said, default=str)},
        format="pdf",
        timestamp=int(document.issued_at.timestamp()) if document.issued_at else 0,
    )
    assert isinstance(made, bytes)
    return made


@cache
def _fonts() -> typst.Fonts:
    import typst

    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=list(_folders()))


def _folders() -> Iterator[str]:
    for package in FONT_PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        yield from spec.submodule_search_locations or ()


def _han(locale: str) -> str:
    asked = locale.replace("_", "-").lower()
    return next((face for prefix, face in HAN.items() if asked.startswith(prefix)), "JP")


def _printable(value: Any) -> Any:
    """The same without what no paper can show, and with places where a very long word may break."""
    if isinstance(value, str):
        return " ".join(_breakable(word) for word in _clean(value).split(" "))
    if isinstance(value, dict):
        return {name: _printable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(each) for each in value]
    return value


def _clean(text: str) -> str:
    """No control characters; and none that turn the text around them, with which one name can look like another."""
    turning = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    kept = (letter for letter in text if unicodedata.bidirectional(letter) not in turning)
    return "".join(" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp", "Cs") else letter for letter in kept)


def _breakable(word: str) -> str:
    if len(word) <= LONGEST_WORD:
        return word
    pieces = (word[start : start + PIECE] for start in range(0, len(word), PIECE))
    return ZERO_WIDTH_SPACE.join(pieces)
