"""Pure. What a template may be made of: names and exact versions, nothing that a package tool could take for more.

python    name==1.2.3, name[extra]==1.2.3          what pip would call a requirement, without markers and addresses
node      name@1.2.3, @scope/name@1.2.3             no ranges, no tags, no addresses

The same names and versions, in whatever order, have the same address: their content is built once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from sandboxes.programs import Refused

MOST = 50
LONGEST = 200
PYTHON = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"(?:\[(?P<extras>[A-Za-z0-9][A-Za-z0-9._-]*(?:,[A-Za-z0-9][A-Za-z0-9._-]*)*)\])?"
    r"==(?P<version>(?:\d+!)?\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?(?:\.dev\d+)?(?:\+[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*)?)"
)
NODE = re.compile(
    r"(?P<name>(?:@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9~_][A-Za-z0-9._~-]*)"
    r"@(?P<version>\d+\.\d+\.\d+(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?)"
)
EXAMPLES = {"python": "six==1.17.0", "node": "left-pad@1.3.0"}
_NAMED = re.compile(r"@?[A-Za-z0-9][A-Za-z0-9._/~-]*")


def check(language: str, asked: Sequence[object]) -> list[str]:
    """The packages as they are built: one spelling each, sorted. Raises Refused, naming each wrong item."""
    if len(asked) > MOST:
        raise Refused({"packages": [f"Name at most {MOST} packages."]})
    read = [_read(language, item) for item in asked]
    errors = {f"packages.{number}": [fault] for number, (_, _, fault) in enumerate(read) if fault}
    seen: set[str] = set()
    for number, (name, _, fault) in enumerate(read):
        if not fault and name in seen:
            errors[f"packages.{number}"] = [f"{name} is named twice."]
        seen.add(name)
    if errors:
        raise Refused(errors)
    return sorted(package for _, package, _ in read)


def _read(language: str, item: object) -> tuple[str, str, str]:
    """(name, package, fault)"""
    if not isinstance(item, str) or len(item) > LONGEST or not item.isascii():
        return "", "", f"Give a name and a version as text, such as {EXAMPLES[language]}."
    text = item.strip(" ")
    found = (PYTHON if language == "python" else NODE).fullmatch(text)
    if found is None:
        return "", "", _fault(language, text)
    if language == "node":
        return found["name"], text, ""
    name = re.sub(r"[-_.]+", "-", found["name"]).lower()
    extras = ",".join(sorted(set((found["extras"] or "").lower().split(",")) - {""}))
    return name, f"{name}{f'[{extras}]' if extras else ''}=={found['version']}", ""


def _fault(language: str, text: str) -> str:
    example = EXAMPLES[language]
    if _NAMED.fullmatch(text):
        return f"{text!r} names no version. Give an exact one, such as {example}."
    return (
        f"{text!r} is not a name and an exact version, such as {example}. Options, addresses and paths are not allowed."
    )


def address(language: str, packages: Sequence[str]) -> str:
    """Names the content on every node; each node keeps it apart for its own interpreter."""
    said = json.dumps([language, sorted(packages)]).encode()
    return f"{language}-{hashlib.sha256(said).hexdigest()[:32]}"
