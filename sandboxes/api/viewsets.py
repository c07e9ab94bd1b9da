"""Endpoints of templates, pools and executions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, mixins, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from billing.models import Account
from sandboxes import executions, lifecycle, names, pools, programs, templates, transcript
from sandboxes.api import serializers
from sandboxes.models import Artifact, Execution, Pool, Template

LONGEST_WAIT_SECONDS = 60
WAIT = OpenApiParameter(
    "wait",
    {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT_SECONDS},
    description="Seconds to hold the answer until the execution is final; then the answer is what it is by then.",
)
CREATED = [
    OpenApiParameter("created_after", OpenApiTypes.DATETIME),
    OpenApiParameter("created_before", OpenApiTypes.DATETIME),
]
FILTERS = [
    OpenApiParameter("state", str, enum=lifecycle.EXECUTION_STATES),
    OpenApiParameter("language", str, enum=programs.LANGUAGES),
    OpenApiParameter("pool", OpenApiTypes.UUID),
    OpenApiParameter("sandbox", OpenApiTypes.UUID, description="A long-lived sandbox."),
    *CREATED,
]
RAW = {(200, "application/octet-stream"): OpenApiTypes.BINARY}


def acting_account(request: Request) -> Account:
    account: Account | None = request._request.account
    if account is None:
        raise exceptions.ValidationError({"account": ["You belong to no account yet."]})
    return account


class TemplateViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Template]):
    scope_area = "sandboxes"
    serializer_class = serializers.TemplateOut
    _bodies = {"create": serializers.TemplateIn, "rebuild": serializers.Nothing}

    def get_serializer_class(self) -> Any:
        return self._bodies.get(self.action, self.serializer_class)

    def get_queryset(self) -> Any:
        visible = Template.objects.visible_to(self.request.user).select_related("build")
        if self.action == "list":
            return visible.usable_by(acting_account(self.request))
        if self.action in ("destroy", "rebuild"):
            return visible.changeable_by(self.request.user)
        return visible

    @extend_schema(responses={201: serializers.TemplateOut})
    def create(self, request: Request) -> Response:
        """Make a template of exact packages. It is `building` at first, then `ready` or `failed`; the same packages are
        built once."""
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = dict(body.validated_data)
        asked["packages_asked"] = asked.pop("packages")
        account, now = acting_account(request), timezone.now()
        template = templates.create_template(account=account, by=request.user, now=now, **asked)
        return Response(serializers.TemplateOut(template).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Delete a template that no pool and no waiting execution starts from."""
        templates.delete_template(template=self.get_object(), by=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=serializers.TemplateOut)
    def rebuild(self, request: Request, pk: UUID) -> Response:
        """Build a failed template again."""
        template = templates.rebuild(template=self.get_object(), by=request.user, now=timezone.now())
        return Response(serializers.TemplateOut(template).data)


class PoolViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Pool]):
    scope_area = "sandboxes"
    serializer_class = serializers.PoolOut
    _bodies = {
        "create": serializers.PoolIn,
        "partial_update": serializers.PoolChange,
        "retrieve": serializers.PoolDetail,
    }

    def get_serializer_class(self) -> Any:
        return self._bodies.get(self.action, self.serializer_class)

    def get_queryset(self) -> Any:
        visible = Pool.objects.visible_to(self.request.user).select_related("template").with_counts()
        if self.action == "list":
            return visible.usable_by(acting_account(self.request))
        if self.action in ("partial_update", "destroy"):
            return visible.changeable_by(self.request.user)
        return visible

    def get_serializer_context(self) -> dict[str, Any]:
        return super().get_serializer_context() | {"account": getattr(self.request._request, "account", None)}

    @extend_schema(responses={201: serializers.PoolDetail})
    def create(self, request: Request) -> Response:
        asked = self._asked(request)
        pool = pools.open_pool(account=acting_account(request), by=request.user, **asked)
        return self._answer(pool, status.HTTP_201_CREATED)

    @extend_schema(
        responses=serializers.PoolDetail,
        parameters=[OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description="The version you read.")],
    )
    def partial_update(self, request: Request, pk: UUID) -> Response:
        pool = self.get_object()
        changes = self._asked(request)
        version = changes.pop("version", None) or _if_match(request)
        changed = pools.change_pool(pool=pool, changes=changes, by=request.user, version=version)
        return self._answer(changed, status.HTTP_200_OK)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        pools.close_pool(pool=self.get_object(), by=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _asked(self, request: Request) -> dict[str, Any]:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked: dict[str, Any] = body.validated_data
        return asked

    def _answer(self, pool: Pool, code: int) -> Response:
        row = Pool.objects.select_related("template").with_counts().get(pk=pool.pk)
        return Response(serializers.PoolDetail(row, context=self.get_serializer_context()).data, status=code)


def _if_match(request: Request) -> int | None:
    given = request.headers.get("If-Match", "").strip().strip('"')
    if not given or given == "*":
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 10):
        raise exceptions.ValidationError({"If-Match": ["Give the version as a number."]})
    return int(given)


class ExecutionViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Execution]):
    scope_area = "sandboxes"
    serializer_class = serializers.ExecutionOut
    _bodies = {
        "create": serializers.ExecutionIn,
        "batch": serializers.BatchIn,
        "cancel": serializers.Nothing,
        "list": serializers.ExecutionRow,
    }

    def get_serializer_class(self) -> Any:
        return self._bodies.get(self.action, self.serializer_class)

    def get_queryset(self) -> Any:
        if self.action == "list":
            own = Execution.objects.visible_to(self.request.user).filter(account=acting_account(self.request))
            return _filtered(own.light().select_related("pool"), self.request)
        if self.action == "cancel":
            return Execution.objects.editable_by(self.request.user).light()
        return Execution.objects.visible_to(self.request.user).light()

    @extend_schema(parameters=FILTERS)
    def list(self, request: Request) -> Response:
        return super().list(request)

    @extend_schema(responses={201: serializers.ExecutionOut}, parameters=[WAIT])
    def create(self, request: Request) -> Response:
        """Queue code to run. With `wait` the answer comes when it is final."""
        seconds = wait_seconds(request)
        execution = self._submit(request, request.data)
        if seconds:
            transcript.wait_for_end([execution.pk], seconds=seconds)
            execution = Execution.objects.light_one(execution.pk)
        return self._answer(execution, status.HTTP_201_CREATED)

    @extend_schema(responses=serializers.BatchOut, parameters=[WAIT])
    def batch(self, request: Request) -> Response:
        """Queue up to 1,000 executions; each is accepted or refused by itself."""
        seconds = wait_seconds(request)
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        submitted = [self._submit_item(request, item) for item in body.validated_data["executions"]]
        keys = [item.pk for item in submitted if isinstance(item, Execution)]
        if seconds and keys:
            transcript.wait_for_end(keys, seconds=seconds)
        found = Execution.objects.light().select_related("pool").in_bulk(keys)
        results = [self._out(found[item.pk]) if isinstance(item, Execution) else item for item in submitted]
        return Response({"results": results})

    def _submit_item(self, request: Request, item: Any) -> Execution | dict[str, Any]:
        """The execution, or the problem that the same body alone would have been answered with."""
        try:
            return self._submit(request, item)
        except Exception as refused:
            if not isinstance(getattr(refused, "code", None), str) and not isinstance(refused, exceptions.APIException):
                raise
            answer: Response = self.get_exception_handler()(refused, self.get_exception_handler_context())
            return dict(answer.data)

    def _submit(self, request: Request, body: Any) -> Execution:
        asked = serializers.asked_of(body)
        return executions.submit(account=acting_account(request), by=request.user, now=timezone.now(), **asked)

    def retrieve(self, request: Request, pk: UUID) -> Response:
        return self._answer(self.get_object(), status.HTTP_200_OK)

    @extend_schema(responses=serializers.ExecutionOut)
    def cancel(self, request: Request, pk: UUID) -> Response:
        """Stop it; the answer comes when its program is dead. A final execution is 409."""
        execution = executions.cancel(execution=self.get_object(), by=request.user, now=timezone.now())
        return self._answer(execution, status.HTTP_200_OK)

    @extend_schema(
        responses=RAW,
        parameters=[
            OpenApiParameter("stream", str, enum=("stdout", "stderr"), default="stdout"),
            OpenApiParameter("offset", {"type": "integer", "minimum": 0}, default=0),
        ],
    )
    def output(self, request: Request, pk: UUID) -> HttpResponse:
        """The raw bytes of a stream so far, from an offset; `X-Next-Offset` is where to go on."""
        execution = self.get_object()
        stream = request.query_params.get("stream", "stdout")
        if stream not in ("stdout", "stderr"):
            raise exceptions.ValidationError({"stream": ["Give stdout or stderr."]})
        offset = _offset(request)
        content, end = transcript.read(execution, stream=stream, offset=offset)
        if offset > end:
            raise exceptions.ValidationError({"offset": [f"The stream has {end} bytes so far."]})
        return _raw(content, "application/octet-stream", {"X-Next-Offset": str(offset + len(content))})

    @extend_schema(responses=RAW)
    def artifact(self, request: Request, pk: UUID, path: str) -> HttpResponse:
        """A file that the code left in /workspace/artifacts."""
        artifact = get_object_or_404(Artifact, execution=self.get_object(), path=path)
        headers = {"Content-Disposition": content_disposition_header(True, names.download_name(path)) or "attachment"}
        return _raw(bytes(artifact.content), artifact.content_type, headers)

    def _answer(self, execution: Execution, code: int) -> Response:
        return Response(self._out(execution), status=code)

    def _out(self, execution: Execution) -> Any:
        return serializers.shown(execution, address=self.request.build_absolute_uri)


def _raw(content: bytes, content_type: str, headers: dict[str, str]) -> HttpResponse:
    # What untrusted code wrote is never rendered by a browser as a page of ours.
    safe = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}
    return HttpResponse(
        content, content_type=content_type, headers={"Content-Disposition": "attachment"} | safe | headers
    )


def wait_seconds(request: Request) -> float:
    given = request.query_params.get("wait")
    if given is None:
        return 0
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= LONGEST_WAIT_SECONDS:
        raise exceptions.ValidationError({"wait": [f"Give a number of seconds from 0 to {LONGEST_WAIT_SECONDS}."]})
    return seconds


def _offset(request: Request) -> int:
    given = request.query_params.get("offset", "0")
    if not (given.isascii() and given.isdecimal() and len(given) < 16):
        raise exceptions.ValidationError({"offset": ["Give a whole number, 0 or more."]})
    return int(given)


def _filtered(rows: Any, request: Request) -> Any:
    asked = request.query_params
    for name, allowed in (("state", lifecycle.EXECUTION_STATES), ("language", programs.LANGUAGES)):
        if name in asked:
            rows = rows.filter(**{name: one_of(request, name, allowed)})
    for name, field in (("pool", "pool"), ("sandbox", "kept_sandbox")):
        if name in asked:
            rows = rows.filter(**{field: _uuid(asked[name], name)})
    return created_between(rows, request)


def one_of(request: Request, name: str, allowed: tuple[str, ...]) -> str:
    """The value of a filter that has a few; raises ValidationError."""
    value: str = request.query_params[name]
    if value not in allowed:
        raise exceptions.ValidationError({name: [f"Give one of {', '.join(allowed)}."]})
    return value


def created_between(rows: Any, request: Request) -> Any:
    for name, lookup in (("created_after", "created_at__gte"), ("created_before", "created_at__lt")):
        if name in request.query_params:
            rows = rows.filter(**{lookup: _moment(request.query_params[name], name)})
    return rows


def _uuid(text: str, name: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise exceptions.ValidationError({name: ["Give an id."]}) from None


def _moment(text: str, name: str) -> datetime:
    try:
        moment = parse_datetime(text.replace(" ", "+"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise exceptions.ValidationError({name: ["Give a time such as 2026-01-31T12:00:00Z."]})
    # In UTC, or an offset of many hours would be a time of day that PostgreSQL does not read.
    return moment.astimezone(UTC)
