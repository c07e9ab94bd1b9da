"""Request bodies of the API: one JSON object, whose fields the view's request serializer knows.

Refused with 400 and the field's name: unknown fields at any depth, fields given twice, NaN and
Infinity (also written as 1e999), half characters no database takes, and nesting no one means.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import Any

from django.core.exceptions import RequestDataTooBig
from rest_framework import exceptions, parsers, serializers

MOST_DEPTH = 64
HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")


class NotJSON(ValueError):
    """Raised while reading a body; the text says where the trouble is."""


class StrictJSONParser(parsers.JSONParser):
    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        view = (parser_context or {}).get("view")
        try:
            body = read(stream.read())
        except RequestDataTooBig:
            raise
        except (ValueError, RecursionError) as wrong:
            raise exceptions.ParseError(_sentence(wrong)) from wrong
        serializer = request_serializer(view)
        if serializer is not None:
            errors = unknown_fields(body, serializer)
            if errors:
                raise exceptions.ValidationError(errors)
        return body


def _sentence(wrong: Exception) -> str:
    if isinstance(wrong, RecursionError):
        return f"The JSON is nested more than {MOST_DEPTH} deep."
    if isinstance(wrong, UnicodeEncodeError):
        return (
            f"The body holds half a character, {ascii(wrong.object[wrong.start])}, which stands for nothing by itself."
        )
    return f"The body is not valid JSON: {wrong}"


def read(raw: bytes) -> Any:
    """The value of a JSON text; raises NotJSON (a ValueError) or RecursionError."""
    text = raw.decode("utf-8")
    value = json.loads(
        text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole, object_pairs_hook=_object
    )
    if not isinstance(value, dict):
        raise NotJSON("send a JSON object.")
    if _depth(value) > MOST_DEPTH:
        raise RecursionError
    if HALF_CHARACTER.search(raw):
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value


def _refuse_constant(name: str) -> float:
    raise NotJSON(f"{name} is not a JSON number.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotJSON(f"{text[:40]} is too large a number.")
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as wrong:  # Python's limit of digits
        raise NotJSON(f"a number of {len(text)} digits is too large.") from wrong


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotJSON(f"the field {twice!r} is there twice.")
    return found


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [inner for item in level for inner in _children(item)]
    return deepest


def _children(value: Any) -> list[Any]:
    found = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in found if isinstance(inner, dict | list)]


def request_serializer(view: Any) -> Any:
    """The serializer of this act's request: `get_serializer_class()`, or `request_serializer` of a plain view."""
    found = getattr(view, "request_serializer", None)
    if found is None and hasattr(view, "get_serializer_class"):
        try:
            found = view.get_serializer_class()
        except AssertionError:  # DRF's way to say that the view declares none
            return None
    if found is None:
        return None
    return _form(found)


@cache
def _form(serializer: Any) -> Any:
    """One of each class is enough to look at its fields: making one copies them all, at every request."""
    return serializer()


def unknown_fields(value: Any, serializer: Any) -> dict[str, Any]:
    """Errors for every field of `value` that the serializer does not take, at any depth."""
    if isinstance(serializer, serializers.ListSerializer):
        serializer = serializer.child
    fields = getattr(serializer, "fields", None)
    if fields is None or not isinstance(value, dict):
        return {}
    taken = {name: field for name, field in fields.items() if _is_taken(field)}
    errors: dict[str, Any] = {name: ["Unknown field."] for name in value if name not in taken}
    for name, field in taken.items():
        nested = _nested_errors(value.get(name), field)
        if nested:
            errors[name] = nested
    return errors


def _is_taken(field: Any) -> bool:
    return not field.read_only and not isinstance(field, serializers.HiddenField)


def _nested_errors(value: Any, field: Any) -> Any:
    child = getattr(field, "child", None)
    if isinstance(value, list) and child is not None:
        found = {str(index): _nested_errors(item, child) for index, item in enumerate(value)}
    elif isinstance(value, dict) and isinstance(field, serializers.DictField) and child is not None:
        found = {str(name): _nested_errors(item, child) for name, item in value.items()}
    elif isinstance(field, serializers.BaseSerializer):
        return unknown_fields(value, field)
    else:
        return {}
    return {name: errors for name, errors in found.items() if errors}
