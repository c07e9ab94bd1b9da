"""Usage records as a CSV file, streamed."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from django.http import StreamingHttpResponse

from billing import amounts, reports
from billing.models import UsageRecord

COLUMNS = ("id", "occurred_at", "meter", "quantity", "credits", "agent", "source", "event", "late", "transaction")
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
    for record in wanted.records().order_by("occurred_at", "pk").iterator(chunk_size=1000):
        yield writer.writerow(_row(record))


def _row(record: UsageRecord) -> list[str]:
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
    ]


def text(value: str) -> str:
    return f"'{value}" if value.startswith(FORMULA) else value
