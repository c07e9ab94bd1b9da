"""`/api/docs/`: the OpenAPI document as one HTML page of our own, without any script from elsewhere."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_safe

from ntd_site import problems, schema

MOST_DEPTH = 4
Rows = list[dict[str, Any]]


@require_safe
def api_docs(request: HttpRequest) -> HttpResponse:
    # Who is not signed in reads it without the navigation.
    shell = "base.html" if request.user.is_authenticated else "base_plain.html"
    context = {"shell": shell, "groups": groups(), "codes": codes(), "server": settings.BASE_URL}
    return render(request, "api_docs.html", context)


def codes() -> Rows:
    found = sorted(problems.STATUS_OF_CODE.items(), key=lambda item: (item[1], item[0]))
    return [{"code": code, "status": status, "title": problems.title(code)} for code, status in found]


@functools.cache
def groups() -> Rows:
    """Operations by tag, in the order of the document's tags."""
    document = schema.document()
    by_tag: dict[str, Rows] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if isinstance(operation, dict):
                made = _operation(document, path, method, operation)
                by_tag.setdefault(operation.get("tags", ["operating"])[0], []).append(made)
    texts = {tag["name"]: tag["description"] for tag in document["tags"]}
    names = [*[name for name in texts if name in by_tag], *[name for name in by_tag if name not in texts]]
    return [{"name": name, "text": texts.get(name, ""), "operations": by_tag[name]} for name in names]


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    example = sample(document, body) if body else None
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "short": path.removeprefix("/api/v1/"),
        "text": [_marked(part) for part in operation.get("description", "").split("\n\n") if part],
        "parameters": [_parameter(parameter) for parameter in operation.get("parameters", [])],
        "fields": fields(document, body),
        "answers": [_answer(document, status, found) for status, found in sorted(operation["responses"].items())],
        "curl": _curl(path, method, operation, example),
    }


def _marked(text: str) -> SafeString:
    """Escaped, with `code` marked."""
    # Escaped before anything of ours is put around it.
    return mark_safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", conditional_escape(text)))


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": parameter["name"],
        "where": parameter["in"],
        "kind": kind_of(parameter.get("schema", {})),
        "required": parameter.get("required", False),
        "text": _marked(parameter.get("description", "")),
    }


def _answer(document: dict[str, Any], status: str, found: dict[str, Any]) -> dict[str, Any]:
    found = _followed(document, found)
    content = next(iter(found.get("content", {}).values()), {})
    is_problem = problems.CONTENT_TYPE in found.get("content", {})
    return {
        "status": status,
        "text": found.get("description", ""),
        "fields": [] if is_problem else fields(document, content.get("schema")),
    }


def _followed(document: dict[str, Any], node: dict[str, Any] | None) -> dict[str, Any]:
    """The node itself, or what its `$ref` points to."""
    while node and "$ref" in node:
        found: Any = document
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        node = found
    return node or {}


def fields(document: dict[str, Any], node: dict[str, Any] | None, prefix: str = "", depth: int = 0) -> Rows:
    """One row a field, nested ones with dotted names."""
    node = _followed(document, node)
    if node.get("type") == "array":
        return fields(document, node.get("items"), f"{prefix}[]", depth)
    rows: Rows = []
    for name, raw in node.get("properties", {}).items():
        found = _followed(document, raw)
        whole = f"{prefix}.{name}" if prefix else name
        rows.append(
            {
                "name": whole,
                "kind": kind_of(found, document),
                "required": name in node.get("required", []),
                "text": _marked(raw.get("description") or found.get("description", "")),
            }
        )
        if depth < MOST_DEPTH:
            rows += fields(document, found, whole, depth + 1)
    return rows


def kind_of(node: dict[str, Any], document: dict[str, Any] | None = None) -> str:
    """A short word for a schema: `integer 1..200`, `string (uuid)`, `mesh | ring`."""
    if document:
        node = _followed(document, node)
    options = node.get("oneOf") or node.get("anyOf") or node.get("allOf")
    if options:
        return " or ".join(dict.fromkeys(kind_of(option, document) for option in options))
    if node.get("enum"):
        return " | ".join("null" if value is None else str(value) for value in node["enum"])
    kind = node.get("type", "any")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if kind == "array":
        return f"list of {kind_of(node.get('items', {}), document)}"
    if "format" in node:
        words += f" ({node['format']})"
    if "minimum" in node or "maximum" in node:
        words += f" {node.get('minimum', '')}..{node.get('maximum', '')}"
    return words


def sample(document: dict[str, Any], node: dict[str, Any] | None, depth: int = 0) -> Any:
    """An example body: the required fields, each with a value of its kind."""
    node = _followed(document, node)
    for given in ("example", "default"):
        if given in node:
            return node[given]
    options = node.get("oneOf") or node.get("anyOf") or node.get("allOf")
    if options:
        return sample(document, options[0], depth)
    if node.get("enum"):
        return node["enum"][0]
    kind = node.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" and depth < MOST_DEPTH:
        wanted = node.get("required") or []
        return {name: sample(document, node.get("properties", {}).get(name), depth + 1) for name in wanted}
    if kind == "array":
        return [sample(document, node.get("items"), depth + 1)]
    samples = {"integer": node.get("minimum", 1), "number": 1, "boolean": True, "object": {}}
    return samples.get(str(kind), _SAMPLE_TEXT.get(node.get("format", ""), "text"))


_SAMPLE_TEXT = {
    "uuid": "0198c0de-0000-7000-8000-000000000000",
    "date-time": "2026-01-31T12:00:00Z",
    "email": "bob@example.com",
    "uri": "https://example.com/",
    "decimal": "1.000000",
}


def _curl(path: str, method: str, operation: dict[str, Any], example: Any) -> str:
    lines = [f"curl {settings.BASE_URL}{path}", '-H "Authorization: Bearer $NTD_API_KEY"']
    if method != "get":
        lines[0] = f"curl -X {method.upper()} {settings.BASE_URL}{path}"
    if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", [])):
        lines.append('-H "Idempotency-Key: $(uuidgen)"')
    if example is not None:
        body = json.dumps(example).replace("'", "'\\''")
        lines += ['-H "Content-Type: application/json"', f"-d '{body}'"]
    return " \\\n  ".join(lines)
