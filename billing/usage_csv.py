"""Usage records as a CSV file, streamed."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from uuid import UUID

from django.http import StreamingHttpResponse

from billing import amounts, reports
from billing.models import UsageRecord

COLUMNS = (
    "id",
    "occurred_at",
    "meter",
    "quantity",
    "credits",
    "agent",
    "source",
    "event",
    "late",
    "transaction",
    "api_key",
    "api_key_name",
)
# A spreadsheet would run text that begins like this.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class _Echo:
    def write(self, line: str) -> str:
        return line


def response(wanted: reports.Range, *, name: str) -> StreamingHttpResponse:
    answer = StreamingHttpResponse(_lines(wanted), content_type="text/csv; charset=utf-8")
    file = f"usage-{name}-{wanted.start:%Y-%m-%d}-{wanted.end:%Y-%m-%d}.csv"
    answer["Content-Disposition"] = f'attachment; filename="{file}"'
    return answer


def _lines(wanted: reports.Range) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(COLUMNS)
    keys = wanted.records().exclude(api_key=None).order_by().values_list("api_key", flat=True).distinct()
    names = reports.names_of_keys(account_id=wanted.account_id, keys=keys)
    for record in wanted.records().order_by("occurred_at", "pk").iterator(chunk_size=1000):
        yield writer.writerow(_row(record, names))


def _row(record: UsageRecord, names: Mapping[UUID, str]) -> list[str]:
    return [
        str(record.pk),
        record.occurred_at.isoformat().replace("+00:00", "Z"),
        record.meter,
        amounts.plain_quantity(record.quantity),
        amounts.six_places(record.cost_ucr),
        text(record.agent),
        text(record.source),
        text(record.key),
        "true" if record.late else "false",
        str(record.transaction_id or ""),
        str(record.api_key or ""),
        text(names.get(record.api_key, "")),
    ]


def text(value: str) -> str:
    return f"'{value}" if value.startswith(FORMULA) else value
