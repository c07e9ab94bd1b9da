"""The inside of a fake sandbox as its envd serves it: files over HTTP, processes over Connect with JSON."""

from __future__ import annotations

import base64
import json
import re
import struct
import time
from typing import Any

from tests.fake_e2b.machine import Dropped, Machine, NoUser, Process

PORT = "49983"
UNARY, STREAM = "application/json", "application/connect+json"
END = 2
STATUS = {"not_found": 404, "invalid_argument": 400, "unauthenticated": 401, "internal": 500, "unimplemented": 501}
KEEPALIVE_SECONDS = 90
SIGNALS = {"SIGNAL_SIGKILL": 9, "SIGNAL_SIGTERM": 15}


class Failed(Exception):
    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message


def serve(request: Any) -> None:
    name = request.headers["E2b-Sandbox-Id"]
    machine = request.fake.machines.get(name)
    if machine is None:
        request.refuse(502, "The sandbox was not found", sandboxId=name)
        return
    if request.headers.get("E2b-Sandbox-Port") != PORT:
        request.refuse(502, "The sandbox is running but port is not open", sandboxId=name, port=0)
        return
    if request.route == "/health" and request.command == "GET":
        request.answer(204)
        return
    if machine.is_secure and request.headers.get("X-Access-Token") != machine.token:
        message = "unauthorized access, please provide a valid access token or method signing if supported"
        request.refuse(401, message)
        return
    if request.route == "/files":
        _files(request, machine)
    elif request.route.startswith("/process.Process/") and request.command == "POST":
        _call(request, machine, request.route.rpartition("/")[2])
    else:
        request.refuse(404, f"no such route: {request.command} {request.route}")


# --- files


def _files(request: Any, machine: Machine) -> None:
    user = request.query.get("username", "user")
    try:
        home = machine.home(user)
    except NoUser:
        request.refuse(401, f"error looking up user '{user}': user: unknown user {user}")
        return
    if request.command == "GET":
        _download(request, machine, home)
    elif request.command == "POST":
        _upload(request, machine, home)
    else:
        request.refuse(405, "method not allowed")


def _download(request: Any, machine: Machine, home: str) -> None:
    path = request.query.get("path", "")
    file = machine.place(path, home)
    if not file.exists():
        request.refuse(404, f"path '{path}' does not exist")
    elif file.is_dir():
        request.refuse(400, f"path '{path}' is a directory")
    else:
        request.answer(200, file.read_bytes())


def _upload(request: Any, machine: Machine, home: str) -> None:
    kind = request.headers.get("Content-Type", "")
    if kind.startswith("multipart/"):
        parts = list(_parts(kind, request.body))
    elif kind == "application/octet-stream" and "path" in request.query:
        parts = [(request.query["path"], request.body)]
    else:
        message = f"unsupported content type: {kind}, expected multipart/form-data or application/octet-stream"
        request.refuse(400, message)
        return
    written = []
    for name, content in parts:
        path = request.query.get("path") or name
        if any(each["path"] == path for each in written):
            request.refuse(400, f"you cannot upload multiple files to the same path '{path}' in one upload request")
            return
        file = machine.place(path, home)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        written.append({"path": path, "name": file.name, "type": "file"})
    request.answer(200, written)


def _parts(kind: str, body: bytes) -> Any:
    boundary = kind.partition("boundary=")[2].encode()
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        text = head.decode()
        if 'name="file"' in text:
            found = re.search(r'filename="([^"]*)"', text)
            yield (found.group(1) if found else ""), content.removesuffix(b"\r\n")


# --- processes


def _call(request: Any, machine: Machine, method: str) -> None:
    is_stream = method in ("Start", "Connect")
    if request.headers.get("Connect-Protocol-Version") != "1":
        _fail(request, Failed("invalid_argument", "missing required header: set Connect-Protocol-Version to 1"))
        return
    if request.headers.get("Content-Type") != (STREAM if is_stream else UNARY):
        request.answer(415)
        return
    try:
        if is_stream:
            _stream(request, machine, method)
        else:
            request.answer(200, UNARIES[method](request, machine, json.loads(request.body)))
    except KeyError:
        _fail(request, Failed("unimplemented", f"process.Process.{method} is not implemented"))
    except Failed as failed:
        _fail(request, failed)


def _fail(request: Any, failed: Failed) -> None:
    request.answer(STATUS[failed.code], {"code": failed.code, "message": failed.message})


def _opened(body: bytes) -> dict[str, Any]:
    flags, size = struct.unpack_from("!BI", body)
    if flags or len(body) != size + 5:
        raise Failed("invalid_argument", "protocol error: not one enveloped message")
    return json.loads(body[5:])


def _stream(request: Any, machine: Machine, method: str) -> None:
    asked = _opened(request.body)
    timeout = int(request.headers.get("Connect-Timeout-Ms") or 0) / 1000
    request.begin_stream(STREAM)
    try:
        process = _started(request, machine, asked) if method == "Start" else _selected(machine, asked)
        _tell(request, {"event": {"start": {"pid": process.pid}}})
        _follow(request, process, time.monotonic() + timeout if timeout else None)
        end: dict[str, Any] = {}
    except Failed as failed:
        end = {"error": {"code": failed.code, "message": failed.message}}
    _tell(request, end, END)
    request.end_stream()


def _tell(request: Any, message: dict[str, Any], flags: int = 0) -> None:
    text = json.dumps(message).encode()
    request.send_chunk(struct.pack("!BI", flags, len(text)) + text)


def _started(request: Any, machine: Machine, asked: dict[str, Any]) -> Process:
    if asked.keys() - {"process", "pty", "tag", "stdin"}:
        raise Failed("invalid_argument", f"unknown fields {sorted(asked)}")
    wanted = asked.get("process") or {}
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    user = base64.b64decode(secret).decode().partition(":")[0] if scheme == "Basic" else "user"
    try:
        home = machine.home(user)
    except NoUser:
        raise Failed("unauthenticated", f"invalid username: '{user}'") from None
    cwd = wanted.get("cwd") or home
    if not machine.place(cwd, home).is_dir():
        raise Failed("invalid_argument", f"cwd '{cwd}' does not exist")
    return machine.start(
        wanted.get("cmd", ""), wanted.get("args", []), wanted.get("envs", {}), cwd, stdin=asked.get("stdin", False)
    )


def _follow(request: Any, process: Process, deadline: float | None) -> None:
    sent = 0
    while True:
        left = KEEPALIVE_SECONDS if deadline is None else deadline - time.monotonic()
        event = process.next_event(left) if left > 0 else None
        if event is None and deadline is not None and time.monotonic() >= deadline:
            process.kill()
            raise Failed("deadline_exceeded", "context deadline exceeded")
        if process.machine_is_gone:
            raise Dropped
        _tell(request, {"event": event or {"keepalive": {}}})
        if event and "end" in event:
            return
        sent += 1
        if request.fake.drop_streams_after is not None and sent >= request.fake.drop_streams_after:
            raise Dropped


def _selected(machine: Machine, asked: dict[str, Any]) -> Process:
    pid = asked.get("process", {}).get("pid")
    process = machine.processes.get(pid)
    if process is None or process.has_ended:
        raise Failed("not_found", f"process with pid {pid} not found")
    return process


def _list(request: Any, machine: Machine, asked: dict[str, Any]) -> dict[str, Any]:
    running = [each for each in machine.processes.values() if not each.has_ended]
    return {"processes": [{"config": {"cmd": each.cmd, "args": each.args}, "pid": each.pid} for each in running]}


def _send_input(request: Any, machine: Machine, asked: dict[str, Any]) -> dict[str, Any]:
    process = _selected(machine, asked)
    if not process.write_stdin(base64.b64decode(asked["input"]["stdin"])):
        raise Failed("internal", "error writing to stdin: stdin not enabled or closed")
    return {}


def _close_stdin(request: Any, machine: Machine, asked: dict[str, Any]) -> dict[str, Any]:
    _selected(machine, asked).close_stdin()
    return {}


def _send_signal(request: Any, machine: Machine, asked: dict[str, Any]) -> dict[str, Any]:
    process = _selected(machine, asked)
    if asked.get("signal") not in SIGNALS:
        raise Failed("unimplemented", f"invalid signal: {asked.get('signal')}")
    process.signal(SIGNALS[asked["signal"]])
    return {}


UNARIES = {"List": _list, "SendInput": _send_input, "CloseStdin": _close_stdin, "SendSignal": _send_signal}
