"""Endpoints: made, changed, switched off and on, their secrets rotated; and tried with a test event."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime, timedelta

from django.db import transaction

from billing import live, owners
from billing.keys import Principal
from billing.models import Account, OutgoingEvent, WebhookDelivery, WebhookEndpoint
from billing.outgoing import addresses, event_types, outbox

MOST = 20
SECRET_BYTES = 32
OVERLAP = timedelta(hours=24)
LONGEST_OVERLAP = timedelta(days=7)
Off = WebhookEndpoint.Off


class BadEvents(Exception):
    """Raised for types of events that an endpoint cannot have."""

    code = "validation_error"

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"events": [str(self)]}}


class TooManyEndpoints(Exception):
    """Raised when an account has as many endpoints as it may."""

    code = "resource_limit_exceeded"
    extras = {"limit": MOST}

    def __init__(self) -> None:
        super().__init__(f"An account has at most {MOST} endpoints. Remove one first.")


class EndpointIsOff(Exception):
    """Raised when something is to be sent to an endpoint that is off."""

    code = "conflict"
    extras = {"state": "off"}

    def __init__(self) -> None:
        super().__init__("This endpoint is off. Switch it on first.")


@transaction.atomic
def create(
    *, account: Account, url: str, events: list[str], by: Principal, now: datetime, description: str = ""
) -> WebhookEndpoint:
    """Make an endpoint with a secret of its own. Raises addresses.BadAddress, BadEvents, TooManyEndpoints."""
    # One that comes at the same moment is counted too.
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    if WebhookEndpoint.objects.filter(account=account).count() >= MOST:
        raise TooManyEndpoints
    is_operator = hears_of_machines(by, account)
    return WebhookEndpoint.objects.create(
        account=account,
        url=addresses.check(url),
        description=description,
        events=_events(events, is_operator=is_operator),
        is_operator=is_operator,
        secret=new_secret(),
        created_at=now,
    )


def hears_of_machines(by: Principal, account: Account) -> bool:
    """Staff in an account of their own; what they add for a customer tells of the customer's things alone."""
    return by.is_staff and Account.objects.filter(by.membership_filter(), pk=account.pk).exists()


def _events(wanted: list[str], *, is_operator: bool) -> list[str]:
    unknown = event_types.unknown(wanted)
    if unknown:
        raise BadEvents(f"There are no such events: {', '.join(unknown)}.")
    beyond = [] if is_operator else event_types.operators_only(wanted)
    if beyond:
        raise BadEvents(f"Only staff, in an account of their own, hear of {', '.join(beyond)}.")
    if not wanted:
        raise BadEvents("Choose at least one event.")
    return [event_types.EVERYTHING] if event_types.EVERYTHING in wanted else sorted(set(wanted))


def new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


def change(
    *,
    endpoint: WebhookEndpoint,
    url: str | None = None,
    events: list[str] | None = None,
    description: str | None = None,
) -> WebhookEndpoint:
    """Raises addresses.BadAddress, BadEvents."""
    if url is not None:
        endpoint.url = addresses.check(url)
    if events is not None:
        endpoint.events = _events(events, is_operator=endpoint.is_operator)
    if description is not None:
        endpoint.description = description
    endpoint.save(update_fields=["url", "events", "description"])
    live.deliveries_changed(endpoint.account_id, endpoint.pk)
    return endpoint


def rotate(*, endpoint: WebhookEndpoint, now: datetime, overlap: timedelta = OVERLAP) -> WebhookEndpoint:
    """Give it a new secret; for so long the old one signs too, so that receivers change when it suits them."""
    endpoint.old_secret = endpoint.secret if overlap else ""
    endpoint.old_secret_until = now + overlap if overlap else None
    endpoint.secret = new_secret()
    endpoint.save(update_fields=["secret", "old_secret", "old_secret_until"])
    return endpoint


@transaction.atomic
def switch_off(*, endpoint: WebhookEndpoint, why: str, now: datetime) -> bool:
    """Send it nothing any more; what waits is given up, and can be replayed. False when it was off before."""
    on = WebhookEndpoint.objects.filter(pk=endpoint.pk, off=Off.ON)
    if not on.update(off=why, off_at=now):
        return False
    endpoint.off, endpoint.off_at = why, now
    waiting = WebhookDelivery.objects.filter(endpoint=endpoint, state=WebhookDelivery.State.PENDING)
    ended = {"state": WebhookDelivery.State.FAILED, "due_at": None, "finished_at": now}
    waiting.update(**ended, error="The endpoint was switched off.")
    if why != Off.OWNER:
        _tell(endpoint)
    live.deliveries_changed(endpoint.account_id, endpoint.pk)
    return True


def _tell(endpoint: WebhookEndpoint) -> None:
    answered = "answered that it is gone" if endpoint.off == Off.GONE else "has not taken a webhook for days"
    owners.tell(
        endpoint.account,
        "A webhook endpoint was switched off",
        f"{endpoint.url} {answered}, so nothing is sent to it any more.\n"
        "Switch it on again when it works; what it missed can be replayed.",
        page=("billing:endpoint", endpoint.pk),
    )


def switch_on(*, endpoint: WebhookEndpoint) -> WebhookEndpoint:
    """Send to it again, as if it had never failed."""
    endpoint.off, endpoint.off_at, endpoint.failing_since = Off.ON, None, None
    endpoint.save(update_fields=["off", "off_at", "failing_since"])
    live.deliveries_changed(endpoint.account_id, endpoint.pk)
    return endpoint


def remove(*, endpoint: WebhookEndpoint) -> None:
    """With everything that was sent to it."""
    endpoint.delete()


@transaction.atomic
def test(*, endpoint: WebhookEndpoint, now: datetime) -> WebhookDelivery:
    """Send it an event that says nothing. Raises EndpointIsOff."""
    if not endpoint.is_on:
        raise EndpointIsOff
    data = dict(event_types.BY_NAME[event_types.TEST].example)
    said = {"account_id": endpoint.account_id, "type": event_types.TEST, "data": data, "created_at": now}
    event = OutgoingEvent.objects.create(**said)
    return outbox.deliver(event, [endpoint], now=now)[0]
