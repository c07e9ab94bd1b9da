"""Field types that take exactly what the contract names: no text for numbers, no numbers for text."""

from __future__ import annotations

import math
from typing import Any

from django.core.validators import ProhibitNullCharactersValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers


class Text(serializers.CharField):
    """Text as it is: not trimmed, not made from numbers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False} | options)

    def to_internal_value(self, value: Any) -> str:
        if not isinstance(value, str):
            raise serializers.ValidationError("Give text.")
        return super().to_internal_value(value)


class AnyText(Text):
    """Text in which NUL is a character like any other: it becomes bytes, never a column of text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.validators = [one for one in self.validators if not isinstance(one, ProhibitNullCharactersValidator)]


class Number(serializers.FloatField):
    def to_internal_value(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise serializers.ValidationError("Give a number.")
        return super().to_internal_value(value)


class Whole(serializers.IntegerField):
    def to_internal_value(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise serializers.ValidationError("Give a whole number.")
        return super().to_internal_value(int(value))


class Flag(serializers.BooleanField):
    def to_internal_value(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise serializers.ValidationError("Give true or false.")
        return value


FILE = {
    "oneOf": [
        {"type": "string", "description": "Text, written as UTF-8."},
        {
            "type": "object",
            "properties": {"base64": {"type": "string", "contentEncoding": "base64"}},
            "required": ["base64"],
            "additionalProperties": False,
        },
    ]
}


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": FILE,
        "description": "Contents by path, relative to /workspace.",
    }
)
class Files(serializers.Field):
    """Paths and contents; programs.py checks them."""

    def to_internal_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise serializers.ValidationError("Give an object of paths and contents.")
        return value

    def to_representation(self, value: Any) -> Any:
        return value


class Strict(serializers.Serializer[Any]):
    """Refuses unknown fields by itself, where the shared parser does not look (the items of a batch)."""

    def to_internal_value(self, value: Any) -> Any:
        found = super().to_internal_value(value)
        unknown = {name: ["Unknown field."] for name in value if name not in self.fields}
        if unknown:
            raise serializers.ValidationError(unknown)
        return found
