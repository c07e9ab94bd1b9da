"""Pure. Makes an order or a size of a client's request; a wrong one is refused before any slot is taken."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from sandboxes.daemon.builds import BuildOrder
from sandboxes.daemon.pools import Size
from sandboxes.daemon.run import Order
from sandboxes.limits import InvalidLimits, Limits

LANGUAGES = ("python", "node")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Never an option, an address or a path: it becomes a word on a command line.
PACKAGES = {
    "python": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[A-Za-z0-9._, -]+\])?==[A-Za-z0-9][A-Za-z0-9.!+_-]*"),
    "node": re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9~_][A-Za-z0-9._~-]*@[0-9][A-Za-z0-9.+-]*"),
}
TEMPLATE = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,127})?")
LONGEST_SECONDS = 3600
LONGEST_NAME = 255
MOST_SLOTS = 10_000
LONGEST_WAIT_SECONDS = 86_400


class BadOrder(ValueError):
    """The request is wrong in itself; the text says which part."""


def read_order(fields: Mapping[str, object], blobs: list[bytes]) -> Order:
    """The order in a RUN frame, whose blobs are the code, stdin and the files."""
    try:
        limits = Limits.parse(_mapping(fields, "limits"))
    except InvalidLimits as problem:
        raise BadOrder(f"limits: {problem}") from problem
    paths = _strings(fields, "files")
    if len(blobs) != len(paths) + 2:
        raise BadOrder("files: the contents do not match the paths")
    return Order(
        id=_string(fields, "id"),
        language=_language(fields),
        template=_template(fields),
        code=blobs[0],
        stdin=blobs[1],
        args=tuple(_passable("args", _strings(fields, "args"))),
        env=_env(_mapping(fields, "env")),
        files=dict(zip(_checked_paths(paths), blobs[2:], strict=True)),
        timeout_seconds=_timeout(fields),
        limits=limits,
        network=_flag(fields, "network"),
    )


def read_size(fields: Mapping[str, object]) -> tuple[str, str, Size]:
    """The language, the template and the size of their pool in a RESIZE frame."""
    size = Size(
        ready=_whole(fields, "ready", 0, MOST_SLOTS),
        running=_whole(fields, "running", 1, MOST_SLOTS),
        idle_timeout_seconds=_whole(fields, "idle_timeout_seconds", 0, LONGEST_WAIT_SECONDS),
        max_age_seconds=_whole(fields, "max_age_seconds", 1, LONGEST_WAIT_SECONDS),
    )
    return _language(fields), _template(fields), size


def _flag(fields: Mapping[str, object], name: str) -> bool:
    value = fields.get(name)
    if not isinstance(value, bool):
        raise BadOrder(f"{name}: give true or false")
    return value


def read_build(fields: Mapping[str, object]) -> BuildOrder:
    """The template to build in a BUILD frame. That the packages are names and versions is checked here again."""
    packages = _strings(fields, "packages")
    language = _language(fields)
    wrong = next((package for package in packages if not PACKAGES[language].fullmatch(package)), None)
    if wrong is not None:
        raise BadOrder(f"packages: {wrong!r} is not a name and a version")
    return BuildOrder(
        id=_string(fields, "id"),
        address=read_address(fields, language),
        language=language,
        packages=tuple(packages),
        lock=_string(fields, "lock"),
    )


def read_address(fields: Mapping[str, object], language: str = "") -> str:
    address = _template(fields)
    if not address or not address.startswith(f"{language}-" if language else ("python-", "node-")):
        raise BadOrder("template: this is no address of a template of that language")
    return address


def _whole(fields: Mapping[str, object], name: str, least: int, most: int) -> int:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadOrder(f"{name}: give a whole number from {least} to {most}")
    return value


def _language(fields: Mapping[str, object]) -> str:
    if fields.get("language") not in LANGUAGES:
        raise BadOrder(f"language: choose one of {', '.join(LANGUAGES)}")
    return str(fields["language"])


def _template(fields: Mapping[str, object]) -> str:
    template = _string(fields, "template")
    if not TEMPLATE.fullmatch(template):
        raise BadOrder("template: this is no template's address")
    return template


def _timeout(fields: Mapping[str, object]) -> float:
    seconds = fields.get("timeout_seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise BadOrder("timeout_seconds: give a number")
    if not 0 < seconds <= LONGEST_SECONDS:
        raise BadOrder(f"timeout_seconds: give a number above 0 and up to {LONGEST_SECONDS}")
    return float(seconds)


def _env(env: Mapping[str, object]) -> dict[str, str]:
    for name, value in env.items():
        if not ENV_NAME.fullmatch(name):
            raise BadOrder(f"env: {name!r} is no name of an environment variable")
        if not isinstance(value, str):
            raise BadOrder(f"env: the value of {name} is no text")
    _passable("env", [str(value) for value in env.values()])
    return {name: str(value) for name, value in env.items()}


def _checked_paths(paths: list[str]) -> list[str]:
    for path in _passable("files", paths):
        parts = path.split("/")
        if not path or path.startswith("/") or {"", ".", ".."} & set(parts):
            raise BadOrder(f"files: {path!r} is not a path inside /workspace")
        if any(len(part.encode("utf-8", "surrogateescape")) > LONGEST_NAME for part in parts):
            raise BadOrder("files: a name in a path is longer than 255 bytes")
    if len(set(paths)) != len(paths):
        raise BadOrder("files: a path is given twice")
    return paths


def _passable(field: str, values: list[str]) -> list[str]:
    """What the kernel can be handed: no NUL, and no surrogate that is not the escape of a byte."""
    for value in values:
        if "\0" in value:
            raise BadOrder(f"{field}: a NUL character is not allowed")
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise BadOrder(f"{field}: a lone surrogate is no character") from None
    return values


def _string(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise BadOrder(f"{name}: give a text")
    return value


def _strings(fields: Mapping[str, object], name: str) -> list[str]:
    value = fields.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadOrder(f"{name}: give a list of texts")
    return value


def _mapping(fields: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = fields.get(name)
    if not isinstance(value, dict):
        raise BadOrder(f"{name}: give an object")
    return value
