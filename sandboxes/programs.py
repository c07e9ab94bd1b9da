"""Pure. What may be asked of an execution: sizes, names and shapes, with a sentence for every refusal."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KIB = 1024
MIB = 1024 * KIB
CODE_BYTES = MIB
INPUT_BYTES = 8 * MIB
ENV_BYTES = 128 * KIB
ARGS_BYTES = 128 * KIB
ARGS_ITEMS = 1000
METADATA_BYTES = 16 * KIB
FILES_BYTES = 32 * MIB
FILES_ITEMS = 1000
PATH_BYTES = 1024
NAME_BYTES = 255
SHORTEST_SECONDS = 1
LONGEST_SECONDS = 3600
LANGUAGES = ("python", "node")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Refused(Exception):
    """Raised when fields of an execution are not valid; `errors` says for each what to change."""

    code = "validation_error"

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        self.errors = dict(errors)
        super().__init__("Some fields are not valid.")

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": self.errors}


class TooLarge(Exception):
    """Raised when a part of an execution is larger than it may be."""

    code = "payload_too_large"

    def __init__(self, name: str, limit: int, unit: str = "bytes") -> None:
        self.limit = limit
        self.field = name
        super().__init__(f"`{name}` is too large: at most {limit:,} {unit}.")

    @property
    def extras(self) -> dict[str, object]:
        return {"limit": self.limit, "field": self.field}


@dataclass(frozen=True, slots=True)
class Program:
    """What a customer wants run, checked."""

    code: str
    stdin: bytes | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    timeout_seconds: float = 60
    metadata: Mapping[str, str] = field(default_factory=dict)


class _Fault(Exception):
    """What is wrong with one field."""


def check(
    *,
    code: object,
    input: object = None,
    args: object = (),
    env: object = None,
    files: object = None,
    timeout_seconds: object = 60,
    metadata: object = None,
) -> Program:
    """The program as asked; raises Refused with every fault at once, or TooLarge at the first part that is."""
    readers: dict[str, tuple[Callable[[object], Any], object]] = {
        "code": (_code, code),
        "input": (_stdin, input),
        "args": (_args, args),
        "env": (_env, env),
        "files": (_files, files),
        "timeout_seconds": (_timeout, timeout_seconds),
        "metadata": (_metadata, metadata),
    }
    found = _read(readers)
    return Program(stdin=found.pop("input"), **found)


def check_sandbox(*, env: object = None, metadata: object = None) -> tuple[dict[str, str], dict[str, str]]:
    """Environment and metadata of a sandbox, by the same rules; raises Refused or TooLarge."""
    found = _read({"env": (_env, env), "metadata": (_metadata, metadata)})
    return found["env"], found["metadata"]


def _read(readers: Mapping[str, tuple[Callable[[object], Any], object]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for name, (read, value) in readers.items():
        try:
            found[name] = read(value)
        except _Fault as fault:
            errors[name] = [str(fault)]
    if errors:
        raise Refused(errors)
    return found


def _text(value: object, what: str = "text") -> str:
    if not isinstance(value, str):
        raise _Fault(f"Give {what}.")
    if "\0" in value:
        raise _Fault("It may not contain the character NUL.")
    _encoded(value)
    return value


def _encoded(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise _Fault("It contains a lone surrogate, which is no character.") from None


def _at_most(size: int, limit: int, name: str, unit: str = "bytes") -> None:
    if size > limit:
        raise TooLarge(name, limit, unit)


def _code(value: object) -> str:
    code = _text(value, "the code as text")
    if not code.strip():
        raise _Fault("Give some code to run.")
    _at_most(len(code.encode()), CODE_BYTES, "code")
    return code


def _stdin(value: object) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        content = value
    elif isinstance(value, str):
        content = _encoded(value)
    else:
        raise _Fault("Give text or null.")
    _at_most(len(content), INPUT_BYTES, "input")
    return content


def _args(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise _Fault("Give a list of texts.")
    _at_most(len(value), ARGS_ITEMS, "args", "items")
    args = tuple(_text(item, "a list of texts") for item in value)
    _at_most(sum(len(item.encode()) for item in args), ARGS_BYTES, "args")
    return args


def _env(value: object) -> dict[str, str]:
    env = _text_map(value)
    wrong = next((name for name in env if not ENV_NAME.fullmatch(name)), None)
    if wrong is not None:
        raise _Fault(f"{wrong!r} is no name of a variable: letters, digits and _, not starting with a digit.")
    _at_most(sum(len(f"{name}={text}".encode()) for name, text in env.items()), ENV_BYTES, "env")
    return env


def _metadata(value: object) -> dict[str, str]:
    metadata = _text_map(value)
    _at_most(len(json.dumps(metadata, ensure_ascii=False).encode()), METADATA_BYTES, "metadata")
    return metadata


def _text_map(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _Fault("Give an object of names and texts.")
    return {_text(name): _text(text, "an object of names and texts") for name, text in value.items()}


def _files(value: object) -> dict[str, bytes]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _Fault("Give an object of paths and contents.")
    _at_most(len(value), FILES_ITEMS, "files", "files")
    files = {_path(path): _content(path, content) for path, content in value.items()}
    _at_most(sum(len(content) for content in files.values()), FILES_BYTES, "files")
    folders = {path[:at] for path in files for at, letter in enumerate(path) if letter == "/"}
    for path in folders & files.keys():
        raise _Fault(f"{path!r} is both a file and a folder.")
    if len(files) < len(value):
        raise _Fault("Two paths name the same file.")
    return files


def _path(value: object) -> str:
    path = _text(value, "paths as text")
    steps = path.split("/")
    if not path or path.startswith("/") or ".." in steps:
        raise _Fault(f"{path!r} must be a path inside the working directory: relative, and without `..`.")
    kept = [step for step in steps if step not in ("", ".")]
    if not kept or steps[-1] in ("", "."):
        raise _Fault(f"{path!r} names a folder, not a file.")
    if len(path.encode()) > PATH_BYTES or any(len(step.encode()) > NAME_BYTES for step in kept):
        raise _Fault(f"{path[:40]!r}... is too long for a path.")
    return "/".join(kept)


def _content(path: object, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _encoded(value)
    if isinstance(value, Mapping) and set(value) == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (binascii.Error, ValueError):
            raise _Fault(f"The content of {path!r} is not base64.") from None
    raise _Fault(f'Give the content of {path!r} as text or as {{"base64": "..."}}.')


def _timeout(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Fault("Give a number of seconds.")
    if not SHORTEST_SECONDS <= value <= LONGEST_SECONDS:
        raise _Fault(f"Give a number from {SHORTEST_SECONDS} to {LONGEST_SECONDS}.")
    return float(value)
