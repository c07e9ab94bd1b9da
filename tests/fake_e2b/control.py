"""The control plane of the fake: what `api.e2b.app` answers, as far as it is asked."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from tests.fake_e2b import FakeE2B
    from tests.fake_e2b.machine import Machine

ENVD_VERSION = "0.6.13"
DEFAULT_SECONDS = 300
# Field: (its type, whether v2 has it too). Whatever else comes is a change of the protocol that somebody must look at.
FIELDS: dict[str, tuple[type, bool]] = {
    "templateID": (str, True),
    "timeout": (int, True),
    "autoPause": (bool, True),
    "autoPauseMemory": (bool, True),
    "autoResume": (dict, True),
    "secure": (bool, False),
    "allow_internet_access": (bool, True),
    "network": (dict, True),
    "metadata": (dict, True),
    "envVars": (dict, True),
    "iam": (dict, True),
    "mcp": (dict, True),
    "volumeMounts": (list, True),
}
IDEMPOTENCY_KEY = re.compile(r"[a-z0-9-]{1,255}")


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


def serve(request: Any) -> None:
    if request.headers.get("X-API-Key") != request.fake.key:
        message = "Invalid API key, please visit https://e2b.dev/docs/api-key for more information."
        request.refuse(401, message)
        return
    for method, pattern, act in ROUTES:
        found = re.fullmatch(pattern, request.route)
        if found and request.command == method:
            try:
                act(request, *found.groups())
            except Refused as refused:
                request.refuse(refused.status, refused.message)
            return
    request.refuse(404, f"no such route: {request.command} {request.route}")


def _json(request: Any) -> dict[str, Any]:
    if request.headers.get("Content-Type", "").split(";")[0] != "application/json":
        raise Refused(400, "Error when parsing request: the content type is not application/json")
    try:
        body = json.loads(request.body)
    except ValueError as problem:
        raise Refused(400, f"Error when parsing request: {problem}") from problem
    if not isinstance(body, dict):
        raise Refused(400, "Error when parsing request: not an object")
    return body


def _create(request: Any, version: str | None) -> None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise Refused(400, "Invalid Idempotency-Key")
    fake: FakeE2B = request.fake
    with fake.lock:
        if key in fake.replies:
            request.answer(201, fake.replies[key], {"Idempotent-Replayed": "true"})
            return
        reply = _made(fake, _json(request), is_v2=bool(version))
        if key is not None:
            fake.replies[key] = reply
    request.answer(201, reply)


def _made(fake: FakeE2B, body: dict[str, Any], *, is_v2: bool) -> dict[str, Any]:
    _check(body, is_v2)
    name = body["templateID"]
    template = fake.templates.get(name) or next((each for each in fake.templates.values() if each.id == name), None)
    if template is None:
        raise Refused(404, f"template '{name}' not found")
    seconds = _seconds(body.get("timeout", DEFAULT_SECONDS), fake)
    is_secure = is_v2 or body.get("secure", False)
    if not body.get("network", {}).get("allowPublicTraffic", True) and not is_secure:
        raise Refused(
            400,
            "You cannot create a sandbox without public access unless you enable secure envd access via 'secure' flag.",
        )
    if len(fake.machines) >= fake.most:
        message = f"you have reached the maximum number of concurrent E2B sandboxes ({fake.most}). If you need more, please visit 'https://e2b.dev/docs/billing'"
        raise Refused(429, message)
    fake.made.append(body)
    machine = fake.make(
        {
            "template": name,
            "template_id": template.id,
            "cpus": template.cpus,
            "memory_mb": template.memory_mb,
            "has_python": template.has_python,
            "cgroup": template.cgroup,
            "metadata": body.get("metadata", {}),
            "envs": body.get("envVars", {}),
            "internet": body.get("allow_internet_access", True),
            "is_secure": is_secure,
            "ends_at": fake.now() + seconds,
        }
    )
    return _reply(machine)


def _check(body: dict[str, Any], is_v2: bool) -> None:
    if "templateID" not in body:
        raise Refused(400, 'Error when parsing request: property "templateID" is missing')
    for name, value in body.items():
        kind, in_v2 = FIELDS.get(name, (None, False))
        if kind is None or (is_v2 and not in_v2):
            raise Refused(400, f'Error when parsing request: property "{name}" is unsupported')
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise Refused(400, f'Error when parsing request: "{name}" is no {kind.__name__}')
    for name in ("metadata", "envVars"):
        if not all(isinstance(value, str) for value in body.get(name, {}).values()):
            raise Refused(400, f'Error when parsing request: "{name}" holds what is no string')


def _seconds(asked: Any, fake: FakeE2B) -> int:
    if isinstance(asked, bool) or not isinstance(asked, int):
        raise Refused(400, "Error when parsing request: timeout is no integer")
    if asked <= 0:
        raise Refused(400, "Timeout must be greater than 0")
    if asked > fake.longest_hours * 3600:
        raise Refused(400, f"Timeout cannot be greater than {fake.longest_hours} hours")
    return asked


def _reply(machine: Machine) -> dict[str, Any]:
    token = {"envdAccessToken": machine.token} if machine.is_secure else {}
    return {
        "templateID": machine.template_id,
        "sandboxID": machine.id,
        "clientID": "6532622b",
        "alias": machine.template,
        "envdVersion": ENVD_VERSION,
        "domain": "fake.invalid",
        **token,
    }


def _shown(machine: Machine) -> dict[str, Any]:
    return {
        "templateID": machine.template_id,
        "sandboxID": machine.id,
        "clientID": "6532622b",
        "alias": machine.template,
        "startedAt": _moment(machine.started_at),
        "endAt": _moment(machine.ends_at),
        "cpuCount": machine.cpus,
        "memoryMB": machine.memory_mb,
        "diskSizeMB": 10240,
        "state": "running",
        "envdVersion": ENVD_VERSION,
        "metadata": machine.metadata,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _found(request: Any, name: str) -> Machine:
    machine = request.fake.machines.get(name)
    if machine is None:
        raise Refused(404, f"Sandbox \"{name}\" doesn't exist or you don't have access to it")
    return machine


def _connect(request: Any, _version: str | None, name: str) -> None:
    machine = _found(request, name)
    body = _json(request)
    seconds = _seconds(body.get("timeout", DEFAULT_SECONDS), request.fake)
    # Connecting never shortens the life of a running sandbox.
    machine.ends_at = max(machine.ends_at, request.fake.now() + seconds)
    request.answer(200, _reply(machine))


def _info(request: Any, name: str) -> None:
    request.answer(200, _shown(_found(request, name)))


def _kill(request: Any, name: str) -> None:
    _found(request, name)
    request.fake.end(name)
    request.answer(204)


def _set_timeout(request: Any, name: str) -> None:
    machine = _found(request, name)
    machine.ends_at = request.fake.now() + _seconds(_json(request).get("timeout"), request.fake)
    request.answer(204)


def _list(request: Any) -> None:
    query = request.query
    unknown = query.keys() - {"metadata", "state", "limit", "nextToken", "order", "startedAfter", "template"}
    if unknown:
        raise Refused(400, f"unknown parameters {sorted(unknown)}")
    limit = int(query.get("limit", 100))
    if not 1 <= limit <= 100:
        raise Refused(400, "limit must be from 1 to 100")
    wanted = _metadata(query.get("metadata", ""))
    with request.fake.lock:
        rows = [each for each in request.fake.machines.values() if wanted.items() <= each.metadata.items()]
    if "running" not in query.get("state", "running").split(","):
        rows = []
    rows.sort(key=lambda each: (each.started_at, each.id), reverse=True)
    begin = int(base64.urlsafe_b64decode(query["nextToken"])) if "nextToken" in query else 0
    more = {}
    if begin + limit < len(rows):
        more["x-next-token"] = base64.urlsafe_b64encode(str(begin + limit).encode()).decode()
    request.answer(200, [_shown(each) for each in rows[begin : begin + limit]], more)


def _metadata(text: str) -> dict[str, str]:
    """Decoded three times: as a query (done), as a form, and each name and value by itself."""
    return {unquote(name): unquote(value) for name, value in parse_qsl(text)}


def _alias(request: Any, name: str) -> None:
    template = request.fake.templates.get(unquote(name))
    if template is None:
        raise Refused(404, f"template '{name}' not found")
    # Those of E2B itself are public, and another team's: they exist, and that is all one is told.
    raise Refused(403, "You don't have access to this template alias")


SANDBOX = r"/sandboxes/([a-z0-9]+)"
ROUTES = (
    ("POST", r"(/v2)?/sandboxes", _create),
    ("POST", r"(/v2)?/sandboxes/([a-z0-9]+)/connect", _connect),
    ("GET", r"/v2/sandboxes", _list),
    ("GET", SANDBOX, _info),
    ("DELETE", SANDBOX, _kill),
    ("POST", SANDBOX + "/timeout", _set_timeout),
    ("GET", r"/templates/aliases/([^/]+)", _alias),
)
