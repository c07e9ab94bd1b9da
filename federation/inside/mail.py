"""Gives messages, one after another, to an agent's `on_message`; sent whole as an execution's code.

reads   mail.json    {"messages": [...], "seconds": how long another may begin}, handler.py: `on_message(message)`
writes  artifacts/mail.jsonl    a line when it begins a message {"begin": id}, and one when that is done
                                {"id": id, "reply": what it returned} or went wrong {"id": id, "error": text}
"""

import asyncio
import importlib
import inspect
import json
import sys
import time
import traceback
from pathlib import Path

REPLY_BYTES = 256 * 1024
MOST_BYTES = 4 * 1024 * 1024
WORDS = 2000


def main(folder):
    asked = json.loads((folder / "mail.json").read_text(encoding="utf-8"))
    on_message = importlib.import_module("handler").on_message
    last_begin = time.monotonic() + asked["seconds"]
    (folder / "artifacts").mkdir(exist_ok=True)
    with open(folder / "artifacts" / "mail.jsonl", "w", encoding="utf-8") as told:
        for message in asked["messages"]:
            say(told, {"begin": message["id"]})
            say(told, {"id": message["id"], **outcome(on_message, message)})
            if time.monotonic() > last_begin or told.tell() > MOST_BYTES:
                break


def say(told, line):
    """At once: what is said is known also when the next message ends this program."""
    told.write(json.dumps(line) + "\n")
    told.flush()


def outcome(on_message, message):
    try:
        reply = on_message(message)
        if inspect.isawaitable(reply):
            reply = asyncio.run(_awaited(reply))
        text = json.dumps(reply, allow_nan=False, default=_plain)
    except Exception as wrong:
        traceback.print_exc()
        return {"error": f"{type(wrong).__name__}: {wrong}"[:WORDS]}
    if len(text) > REPLY_BYTES:
        return {"error": f"The reply is longer than {REPLY_BYTES:,} bytes."}
    return {"reply": json.loads(text)}


async def _awaited(reply):
    return await reply


def _plain(value):
    """Numbers and arrays of numpy, and whatever else can say itself as a list or a number."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"on_message() returned {type(value).__name__}, which cannot be written as JSON")


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main(Path.cwd())
