"""`POST /api/v1/test/clock`: moves the test clock and runs one round of every periodic background task."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ntd_site import clock, schedules
from ntd_site.celery import app

MOST = timedelta(days=3653)
log = logging.getLogger(__name__)


class ClockRequest(serializers.Serializer[Any]):
    now = serializers.DateTimeField(required=False)
    advance_seconds = serializers.FloatField(required=False, min_value=0, max_value=MOST.total_seconds())

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            raise serializers.ValidationError("Send either `now` or `advance_seconds`.")
        if "now" in attrs and attrs["now"] - timezone.now() > MOST:
            raise serializers.ValidationError({"now": ["At most ten years ahead."]})
        return attrs


class TestClock(APIView):
    staff_only = True
    request_serializer = ClockRequest
    __test__ = False  # not one of pytest's

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not clock.is_on():
            raise Http404
        super().initial(request, *args, **kwargs)

    @extend_schema(exclude=True)
    def post(self, request: Request) -> Response:
        asked = ClockRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        now = clock.move(to=asked.validated_data.get("now"), seconds=asked.validated_data.get("advance_seconds"))
        sweep_once()
        return Response({"now": now})


def sweep_once() -> None:
    """Every task of the schedule, here and now; one that fails is logged and the others still run."""
    app.loader.import_default_modules()
    for name, entry in schedules.DECLARED.items():
        try:
            app.tasks[entry["task"]](*entry.get("args", ()), **entry.get("kwargs", {}))
        except Exception:
            log.exception("the sweep %s failed", name)
