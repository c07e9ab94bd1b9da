"""Gives a task's payload to an agent's handler and keeps what it returns; sent whole as an execution's code.

reads   payload.json, handler.py     the handler's `handle(payload)`, plain or async; a module without one just runs
writes  artifacts/result.json        what it returned, unless that is None: then what it wrote there itself, if anything
"""

import asyncio
import importlib
import inspect
import json
import sys
from pathlib import Path


def main(folder):
    payload = json.loads((folder / "payload.json").read_text(encoding="utf-8"))
    handle = getattr(importlib.import_module("handler"), "handle", None)
    if handle is None:
        return
    result = handle(payload)
    if inspect.isawaitable(result):
        result = asyncio.run(_awaited(result))
    if result is None:
        return
    try:
        text = json.dumps(result, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as wrong:
        sys.exit(f"handle() returned what is no JSON: {wrong}")
    (folder / "artifacts").mkdir(exist_ok=True)
    (folder / "artifacts" / "result.json").write_text(text, encoding="utf-8")


async def _awaited(result):
    return await result


def _plain(value):
    """Numbers and arrays of numpy, and whatever else can say itself as a list or a number."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


if __name__ == "__main__":
    main(Path.cwd())
