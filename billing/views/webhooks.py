"""Webhook endpoints of an account: the list, one with its log, and one delivery with its attempts."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing import roles
from billing.models import Account, WebhookDelivery, WebhookEndpoint
from billing.outgoing import addresses, endpoints, replaying
from billing.views import paging
from billing.webhook_forms import EndpointForm, ReplayForm, RotateForm

ATTEMPTS_SHOWN = 100


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def webhooks(request: HttpRequest, account: Account) -> HttpResponse:
    """The list, and making an endpoint, whose secret is in this one answer and nowhere else."""
    is_operator = endpoints.hears_of_machines(request.user, account)
    form = EndpointForm(request.POST or None, is_operator=is_operator)
    made = None
    if request.method == "POST":
        roles.require_owner(request.user, account)
        if form.is_valid():
            made = _create(request, account, form)
    context = {
        "form": form if made is None else EndpointForm(is_operator=is_operator),
        "made": made,
        "is_owner": roles.is_owner(request.user, account),
        "endpoints": WebhookEndpoint.objects.filter(account=account).order_by("-created_at", "-pk"),
    }
    return render(request, "billing/webhooks.html", context, status=422 if form.errors else 200)


def _create(request: HttpRequest, account: Account, form: EndpointForm) -> WebhookEndpoint | None:
    try:
        return endpoints.create(account=account, by=request.user, now=timezone.now(), **form.cleaned_data)
    except (addresses.BadAddress, endpoints.TooManyEndpoints) as refused:
        form.add_error("url", str(refused))
    except endpoints.BadEvents as refused:
        form.add_error("events", str(refused))
    return None


@require_safe
def endpoint(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """One endpoint and its log; a nudge asks for the log alone."""
    found = _endpoint(account, pk)
    template = "_deliveries" if request.wants_partial else "endpoint"
    return render(request, f"billing/{template}.html", _context(request, account, found))


def _context(request: HttpRequest, account: Account, found: WebhookEndpoint) -> dict[str, Any]:
    state = request.GET.get("state", "")
    return {
        "endpoint": found,
        "state": state if state in WebhookDelivery.State.values else "",
        "states": WebhookDelivery.State.choices,
        "page": paging.page(request, _deliveries(found, state)),
        "is_owner": roles.is_owner(request.user, account),
        "rotate_form": RotateForm(),
        "replay_form": ReplayForm(),
        "now": timezone.now(),
    }


def _deliveries(found: WebhookEndpoint, state: str) -> QuerySet[WebhookDelivery]:
    rows = WebhookDelivery.objects.filter(endpoint=found).select_related("event")
    if state in WebhookDelivery.State.values:
        rows = rows.filter(state=state)
    return rows.order_by("-created_at", "-pk")


@require_http_methods(["GET", "HEAD", "POST"])
def change(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_owner(request.user, account)
    found = _endpoint(account, pk)
    now = {"url": found.url, "description": found.description, "events": found.events}
    form = EndpointForm(request.POST or None, is_operator=found.is_operator, initial=now)
    if request.method == "POST" and form.is_valid() and _change(found, form):
        messages.success(request, "The endpoint is saved.")
        return redirect("billing:endpoint", account, pk)
    return render(
        request, "billing/endpoint_form.html", {"form": form, "endpoint": found}, status=422 if form.errors else 200
    )


def _change(found: WebhookEndpoint, form: EndpointForm) -> bool:
    try:
        endpoints.change(endpoint=found, **form.cleaned_data)
    except addresses.BadAddress as refused:
        form.add_error("url", str(refused))
    return not form.errors


@never_cache
@require_POST
def rotate(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """A new secret, shown in this one answer."""
    roles.require_owner(request.user, account)
    form = RotateForm(request.POST)
    found = _endpoint(account, pk)
    if not form.is_valid():
        messages.error(request, "Choose how long the old secret signs.")
        return redirect("billing:endpoint", account, pk)
    endpoints.rotate(endpoint=found, now=timezone.now(), overlap=form.overlap_time())
    return render(request, "billing/endpoint.html", _context(request, account, found) | {"secret": found.secret})


@require_POST
def switch(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Off when it is on, and on when it is off."""
    roles.require_owner(request.user, account)
    found = _endpoint(account, pk)
    if found.is_on:
        endpoints.switch_off(endpoint=found, why=WebhookEndpoint.Off.OWNER, now=timezone.now())
        messages.success(request, "Nothing is sent to it any more. What it misses can be replayed.")
    else:
        endpoints.switch_on(endpoint=found)
        messages.success(request, "It is told again of what happens from now on.")
    return redirect("billing:endpoint", account, pk)


@require_POST
def test(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_owner(request.user, account)
    try:
        endpoints.test(endpoint=_endpoint(account, pk), now=timezone.now())
        messages.success(request, "A test event is on its way.")
    except endpoints.EndpointIsOff as refused:
        messages.error(request, str(refused))
    return redirect("billing:endpoint", account, pk)


@require_POST
def replay(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Everything of a span of time again."""
    roles.require_owner(request.user, account)
    found, form, now = _endpoint(account, pk), ReplayForm(request.POST), timezone.now()
    try:
        if form.is_valid():
            count = replaying.since(endpoint=found, moment=form.since(now), now=now)
            messages.success(request, f"{count} event{'' if count == 1 else 's'} sent again, each under its own id.")
    except (endpoints.EndpointIsOff, replaying.TooMuchToReplay) as refused:
        messages.error(request, str(refused))
    return redirect("billing:endpoint", account, pk)


@require_POST
def remove(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_owner(request.user, account)
    endpoints.remove(endpoint=_endpoint(account, pk))
    messages.success(request, "The endpoint and its log are removed.")
    return redirect("billing:webhooks", account)


@require_safe
def delivery(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """One event to one endpoint: what is sent, and what came back each time."""
    found = _delivery(account, pk)
    context = {
        "delivery": found,
        "endpoint": found.endpoint,
        "attempts": found.log.order_by("-number", "-pk")[:ATTEMPTS_SHOWN],
        "data": json.dumps(found.event.data, indent=2, sort_keys=True, ensure_ascii=False),
        "is_owner": roles.is_owner(request.user, account),
    }
    template = "_delivery" if request.wants_partial else "delivery"
    return render(request, f"billing/{template}.html", context)


@require_POST
def delivery_replay(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_owner(request.user, account)
    found = _delivery(account, pk)
    try:
        found = replaying.one(delivery=found, now=timezone.now())
        messages.success(request, "The event is sent again, under the same id.")
    except endpoints.EndpointIsOff as refused:
        messages.error(request, str(refused))
    return redirect("billing:delivery", account, found.pk)


def _endpoint(account: Account, pk: UUID) -> WebhookEndpoint:
    found: WebhookEndpoint = get_object_or_404(
        WebhookEndpoint.objects.select_related("account"), account=account, pk=pk
    )
    return found


def _delivery(account: Account, pk: UUID) -> WebhookDelivery:
    rows = WebhookDelivery.objects.select_related("endpoint__account", "event")
    found: WebhookDelivery = get_object_or_404(rows, endpoint__account=account, pk=pk)
    return found
