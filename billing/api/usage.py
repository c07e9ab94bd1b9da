"""`usage/events`, `usage`, `usage/export`, `prices`, `prices/estimate`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.http import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, PolymorphicProxySerializer, extend_schema
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from billing import amounts, books, cloud_events, intake, periods, reports, usage_csv
from billing.api import acting, cloud, metered
from billing.api.serializers import Nothing
from billing.models import Account

EVENTS = PolymorphicProxySerializer(
    component_name="UsageEvents",
    serializers=[metered.EventAnswer, metered.EventResults],
    resource_type_field_name=None,
)
GIVEN = PolymorphicProxySerializer(
    component_name="UsageEventsGiven",
    serializers=[metered.EventRequest, metered.EventBatch],
    resource_type_field_name=None,
)


BY_WHOM = {"": "", "agent": "agent", "key": "api_key"}
# Checking an item of a batch copies no fields.
FORM = metered.EventRequest()
# An event's values; or the answer that it is not right.
Checked = tuple[dict[str, Any] | None, dict[str, Any] | None]


class UsageViewSet(acting.BillingViewSet):
    """What was used."""

    pagination_class = None
    serializer_class = Nothing
    parser_classes = cloud.PARSERS
    # Part of the work that it records.
    charged_actions = frozenset({"events"})
    request_serializers = {"events": metered.EventsRequest}
    query_serializers = {"summary": metered.WindowQuery, "export": metered.UsageQuery}

    @extend_schema(
        request={
            "application/json": GIVEN,
            cloud_events.SINGLE: cloud.CloudEvent,
            cloud_events.BATCH: cloud.CloudEvent(many=True),
        },
        responses={200: EVENTS, 201: metered.EventAnswer},
    )
    def events(self, request: Request) -> Response:
        """Record one event (201, or 200 when it is a duplicate), or up to 1,000 (200, answered one by one). CloudEvents
        are taken in structured mode, one or a batch."""
        self.given(request)
        account, now, api_key = acting.account_of(request), timezone.now(), acting.api_key(request)
        sent = cloud.kind_of(request)
        if sent == cloud_events.SINGLE:
            return _single(account, _cloud_event(request.data["events"][0]), now, api_key)
        if sent:
            return _batch(account, [_checked_cloud(item) for item in request.data["events"]], now, api_key)
        if "events" not in request.data:
            given = metered.EventRequest(data=request.data)
            given.is_valid(raise_exception=True)
            return _single(account, dict(given.validated_data), now, api_key)
        if len(request.data) > 1:
            raise exceptions.ValidationError({"events": ["Send either one event or `events`, not both."]})
        return _batch(account, [_checked(item) for item in request.data["events"]], now, api_key)

    @extend_schema(parameters=[metered.WindowQuery], responses=metered.UsageRows)
    def summary(self, request: Request) -> Response:
        """Quantity and credits by meter, and when asked by window of the account's clock and `by` agent or API key;
        the running period unless `from` and `to` say otherwise. What no agent or key used has none."""
        account, asked = acting.account_of(request), self.asked(request)
        window, by_whom = asked.get("window", ""), BY_WHOM[asked.get("by", "")]
        wanted, zone = _range(account, asked, window), ZoneInfo(account.time_zone)
        rows = reports.used(wanted, zone=zone, window=window, by_whom=by_whom)
        if by_whom == "api_key":
            keys = {row["api_key"] for row in rows} - {None}
            names = reports.names_of_keys(account_id=account.pk, keys=keys)
            rows = [{**row, "api_key_name": names.get(row["api_key"], "")} for row in rows]
        return Response(metered.UsageRows({"results": rows, "next": None, "previous": None}).data)

    @extend_schema(
        parameters=[metered.UsageQuery],
        responses={(200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, "One line for each usage record.")},
    )
    def export(self, request: Request) -> HttpResponseBase:
        """Every usage record of the range as CSV."""
        account, asked = acting.account_of(request), self.asked(request)
        return usage_csv.response(_range(account, asked, ""), name=account.slug)


def _cloud_event(item: Any) -> dict[str, Any]:
    try:
        given = metered.EventRequest(data=cloud_events.event_of(item))
    except cloud_events.NoUsageEvent as wrong:
        raise exceptions.ValidationError({wrong.attribute or "non_field_errors": [wrong.sentence]}) from wrong
    if not given.is_valid():
        raise exceptions.ValidationError(
            {cloud_events.NAMES.get(name, name): said for name, said in given.errors.items()}
        )
    return dict(given.validated_data)


def _checked_cloud(item: Any) -> Checked:
    try:
        return _checked(cloud_events.event_of(item))
    except cloud_events.NoUsageEvent as wrong:
        return _invalid(item, str(wrong))


def _single(account: Account, given: dict[str, Any], now: datetime, api_key: str) -> Response:
    found = intake.accept(account=account, event=given, now=now, api_key=api_key)
    return Response(metered.EventAnswer(_shown(found)).data, status=201 if found.is_new else 200)


def _checked(item: Any) -> Checked:
    """One event of a batch: its values, or the answer that it is not right."""
    unknown = sorted(set(item) - set(FORM.fields)) if isinstance(item, dict) else []
    if unknown:
        return _invalid(item, f"Unknown fields: {', '.join(unknown)}.")
    try:
        return FORM.run_validation(item), None
    except exceptions.ValidationError as wrong:
        return _invalid(item, _first(wrong.detail))


def _invalid(item: Any, sentence: str) -> Checked:
    name = item.get("id") if isinstance(item, dict) and isinstance(item.get("id"), str) else None
    return None, {"id": name, "status": "invalid", "detail": sentence}


def _batch(account: Account, checked: list[Checked], now: datetime, api_key: str) -> Response:
    """What came of each event, in their order: an answer and never an error."""
    events = [event for event, _ in checked if event is not None]
    outcomes = iter(intake.accept_many(account=account, events=events, now=now, api_key=api_key))
    results = [answer if event is None else _result(event, next(outcomes)) for event, answer in checked]
    return Response(metered.EventResults({"results": results}).data)


def _result(event: dict[str, Any], found: intake.Accepted | Exception) -> dict[str, Any]:
    if isinstance(found, Exception):
        return {"id": event["id"], "status": intake.status_of(found), "detail": str(found)}
    return _shown(found)


def _shown(found: intake.Accepted) -> dict[str, Any]:
    record = found.record
    return {
        "id": record.key,
        "status": "accepted" if found.is_new else "duplicate",
        "usage": record.pk,
        "cost_credits": record.cost_ucr,
        "cost_ucr": record.cost_ucr,
        "transaction": record.transaction_id,
        "late": record.late,
    }


def _first(errors: Any) -> str:
    # What is no object at all (null) has a list of errors, of no field.
    name, messages = next(iter(errors.items())) if isinstance(errors, dict) else ("non_field_errors", errors)
    message = messages[0] if isinstance(messages, list) else messages
    return str(message) if name == "non_field_errors" else f"{name}: {message}"


def _range(account: Account, asked: dict[str, Any], window: str) -> reports.Range:
    zone = ZoneInfo(account.time_zone)
    inside = asked["to"] - timedelta(microseconds=1) if "to" in asked else timezone.now()
    running = periods.containing(inside, periods.Cadence(account.billing_period), zone)
    start, end = asked.get("from", running.start), asked.get("to", running.end)
    if "from" in asked and "to" not in asked:
        end = max(end, start)
    if end < start:
        raise exceptions.ValidationError({"to": ["Must not be before `from`."]})
    longest = reports.LONGEST[window]
    if longest is not None and end - start > longest:
        raise exceptions.ValidationError({"window": [f"By {window}, ask for at most {longest.days} days."]})
    return reports.Range(account.pk, start, end, asked.get("meter", ""), asked.get("agent", ""), asked.get("api_key"))


class PriceViewSet(acting.BillingViewSet):
    """What each meter costs this account now."""

    pagination_class = None
    serializer_class = Nothing
    request_serializers = {"estimate": metered.EstimateRequest}

    @extend_schema(responses=metered.PriceList)
    def current(self, request: Request) -> Response:
        """One event costs its price; a call with an API key is `api_call`, but for those that cost no credits."""
        prices = books.prices_of(account_id=acting.account_of(request).pk, at=timezone.now())
        return Response(metered.PriceList({"results": prices, "next": None, "previous": None}).data)

    @extend_schema(request=metered.EstimateRequest, responses=metered.EstimateAnswer)
    def estimate(self, request: Request) -> Response:
        """What quantities would cost, each by itself."""
        account_id = acting.account_of(request).pk
        items = [_estimated(account_id, item) for item in self.given(request)["items"]]
        total = sum(item["credits"] for item in items)
        return Response(metered.EstimateAnswer({"total_credits": total, "items": items}).data)


def _estimated(account_id: UUID, item: dict[str, Any]) -> dict[str, Any]:
    price = books.price_of(account_id=account_id, meter=item["meter"], at=timezone.now())
    return {**item, "credits": amounts.half_even(price.rule().exact(item["quantity"]))}
