"""Pure. The names that programs give their artifacts: any bytes but NUL and `/`, so anything at all.

A name that is UTF-8 and not too long is kept as it is and has an address, whatever is in it. Any other file
is left out and named readably, since two such names could read alike.
"""

from __future__ import annotations

import mimetypes

LONGEST = 1024
LONGEST_TYPE = 120
UNKNOWN_TYPE = "application/octet-stream"


def is_addressable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return len(path) <= LONGEST


def readable(path: str) -> str:
    """The same with a mark for every byte that is no character, cut where it grows too long."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def content_type(path: str) -> str:
    # The dot keeps `data:text/html,` from being read as an address that says its own type.
    found, packed = mimetypes.guess_type("./" + path)
    if packed:
        found = f"application/{packed}"
    return found if found and len(found) <= LONGEST_TYPE else UNKNOWN_TYPE


def download_name(path: str) -> str:
    """What a browser saves it as: the last part, without what is not seen but turns or breaks a line."""
    last = path.rsplit("/", 1)[-1]
    return "".join(letter if letter.isprintable() else "_" for letter in last)
