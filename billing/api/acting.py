"""What every billing view needs to know of a request: its account, its actor, its filters."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from rest_framework import exceptions, viewsets
from rest_framework.request import Request
from uuid_utils.compat import uuid7

from billing.keys import KeyPrincipal
from billing.models import Account


class BillingViewSet(viewsets.GenericViewSet[Any]):
    """Scope `billing`, one request serializer for each act, rows of the account the request acts in.

    Calls cost no credits, so that nobody pays for paying, or for looking at what there is to pay; all but those named.
    """

    scope_area = "billing"
    calls_are_free = True
    request_serializers: dict[str, Any] = {}
    query_serializers: dict[str, Any] = {}

    def get_serializer_class(self) -> Any:
        return self.request_serializers.get(self.action, self.serializer_class)

    def given(self, request: Request) -> dict[str, Any]:
        """The request's body, checked."""
        serializer = self.get_serializer_class()(data=request.data, context={"view": self, "request": request})
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def asked(self, request: Request) -> dict[str, Any]:
        """The request's filters, checked."""
        serializer = self.query_serializers[self.action](data=request.query_params.dict())
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def page(self, rows: QuerySet[Any], answer: Any, **context: Any) -> Any:
        found = self.paginate_queryset(rows)
        return self.get_paginated_response(answer(found, many=True, context=context).data)


def account_of(request: Request) -> Account:
    account: Account | None = getattr(request, "account", None)
    if account is None:
        raise Http404("No account.")
    return account


def visible_account(request: Request, account_id: object) -> Account:
    """An account named in a body, which staff may act for."""
    found = Account.objects.visible_to(request.user).filter(pk=account_id).first()
    if found is None:
        raise exceptions.ValidationError({"account": ["There is no such account."]})
    return found


def actor(request: Any) -> str:
    """Who acts, as the ledger writes it down."""
    user = request.user
    return f"key:{user.pk}" if isinstance(user, KeyPrincipal) else f"user:{user.pk}"


def api_key(request: Any) -> str:
    """The key that acts, as budgets name it; empty for a person."""
    return str(request.user.pk) if isinstance(request.user, KeyPrincipal) else ""


def request_id(request: Any) -> str:
    return str(getattr(request, "id", ""))[:128]


def act_key(request: Request) -> str:
    """The ledger's key of this act: the caller's idempotency key, or one of its own."""
    return request.headers.get("Idempotency-Key") or str(uuid7())


def between(rows: QuerySet[Any], asked: dict[str, Any], *exact: str) -> QuerySet[Any]:
    """Apply `created_after`, `created_before` and filters by equality."""
    if "created_after" in asked:
        rows = rows.filter(created_at__gte=asked["created_after"])
    if "created_before" in asked:
        rows = rows.filter(created_at__lt=asked["created_before"])
    return rows.filter(**{name: asked[name] for name in exact if name in asked})
