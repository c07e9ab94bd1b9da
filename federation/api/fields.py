"""Field types beside those of `sandboxes.api.fields`, as exact: no text for numbers, no numbers for text."""

from __future__ import annotations

import json
import math
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers


class Share(serializers.FloatField):
    """A number from 0 to 1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"min_value": 0, "max_value": 1} | options)

    def to_internal_value(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise serializers.ValidationError("Give a number from 0 to 1.")
        return super().to_internal_value(value)


class Seconds(serializers.FloatField):
    """A time span, more than nothing."""

    def to_internal_value(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise serializers.ValidationError("Give a number of seconds above 0.")
        return super().to_internal_value(value)


class Moment(serializers.DateTimeField):
    """A time with its zone, as the contract writes them."""

    def to_internal_value(self, value: Any) -> Any:
        if (
            not isinstance(value, str)
            or not value.strip().upper().endswith("Z")
            and "+" not in value[10:]
            and "-" not in value[10:]
        ):
            raise serializers.ValidationError("Give a time with its zone, such as 2026-01-31T12:00:00Z.")
        return super().to_internal_value(value)


@extend_schema_field({})  # any JSON value
class Json(serializers.Field[Any, Any, Any, Any]):
    """Any JSON value that the database can keep."""

    def __init__(self, *, most_bytes: int = 1024 * 1024, **options: Any) -> None:
        self.most_bytes = most_bytes
        super().__init__(**{"allow_null": True} | options)

    def to_internal_value(self, value: Any) -> Any:
        text = json.dumps(value)
        if "\\u0000" in text:
            raise serializers.ValidationError("The character U+0000 cannot be kept.")
        if len(text) > self.most_bytes:
            raise TooLarge(self.field_name or "", self.most_bytes)
        return value

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(
    {"oneOf": [{"type": "string", "minLength": 1, "maxLength": 60}, {"type": "integer", "minimum": 0}]}
)
class TaskName(serializers.Field[Any, Any, Any, Any]):
    """A task by its id, or an item of a batch by its place or key."""

    def to_internal_value(self, value: Any) -> UUID | int | str:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1_000_000:
            return value
        if not isinstance(value, str) or not 0 < len(value) <= 60 or "\x00" in value:
            raise serializers.ValidationError("Give a task's id, or in a batch an item's place or key.")
        try:
            return UUID(value)
        except ValueError:
            return value

    def to_representation(self, value: Any) -> Any:
        return value


class Unread(Json):
    """An item of a batch, which is judged by itself."""

    def to_internal_value(self, value: Any) -> Any:
        return value


class TooLarge(Exception):
    """Raised for a value larger than its field takes."""

    code = "payload_too_large"

    def __init__(self, field: str, limit: int) -> None:
        super().__init__(f"`{field}` is too large: at most {limit:,} bytes.")
        self.extras = {"limit": limit}
