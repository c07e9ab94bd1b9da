"""Two related rows by a statement written by hand: where a query is asked so often that the ORM takes longer to
compile it than the database to answer it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection
from django.db.models import Model


def pair(statement: str, arguments: Sequence[Any], first: type[Model], second: type[Model]) -> tuple[Any, Any] | None:
    """The one row of a statement that selects all columns of `first`, then all of `second`; None without one."""
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments)
        row = cursor.fetchone()
        if row is None:
            return None
        names = [column.name for column in cursor.description]
    width = len(first._meta.concrete_fields)
    found = (zip(names[part], row[part], strict=True) for part in (slice(width), slice(width, None)))
    return tuple(_loaded(model, dict(values)) for model, values in zip((first, second), found, strict=True))


def _loaded(model: type[Model], found: Mapping[str, Any]) -> Model:
    fields = model._meta.concrete_fields
    values = []
    for field in fields:
        value = found[field.attname]
        for convert in field.get_db_converters(connection):
            value = convert(value, None, connection)
        values.append(value)
    return model.from_db(connection.alias, [field.attname for field in fields], values)
