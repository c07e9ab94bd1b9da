"""Members, invitations and API keys over the API: an owner's acts, or a key's with `account:write`."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from billing import accounts, invitations, keys, roles
from billing.api import people_serializers as shapes
from billing.models import Account, ApiKey, Invitation, Membership


def account_of(request: Request) -> Account:
    """The account this request acts in; 404 for a person without one."""
    account = getattr(request._request, "account", None)
    if account is None:
        raise Http404
    return account


class Keys(viewsets.GenericViewSet[ApiKey]):
    """API keys of the account."""

    scope_area = "account"
    calls_are_free = True
    secret_fields = ("key",)

    def get_queryset(self) -> QuerySet[ApiKey]:
        return ApiKey.objects.visible_to(self.request.user).filter(account=account_of(self.request))

    def get_serializer_class(self) -> Any:
        return shapes.KeyRequest if self.action == "create" else shapes.Nothing

    @extend_schema(parameters=[shapes.KeyQuery], responses=shapes.KeyAnswer(many=True))
    def list(self, request: Request) -> Response:
        query = shapes.KeyQuery(data=request.query_params)
        rows = self.get_queryset().filter(**query.conditions())
        if "state" in query.validated_data:
            rows = rows.filter(_in_state(query.validated_data["state"]))
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(shapes.KeyAnswer(page, many=True).data)

    @extend_schema(request=shapes.KeyRequest, responses={201: shapes.NewKeyAnswer})
    def create(self, request: Request) -> Response:
        """Make a key. Its secret is in this answer and cannot be had again."""
        account = account_of(request)
        roles.require_owner(request.user, account)
        asked = shapes.KeyRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        key, secret = keys.create(account=account, by=request.user, now=timezone.now(), **asked.validated_data)
        key.key = secret  # type: ignore[attr-defined]
        return Response(shapes.NewKeyAnswer(key).data, status=201)

    @extend_schema(responses=shapes.KeyAnswer)
    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(shapes.KeyAnswer(self.get_object()).data)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Revoke a key, at once. It stays in the list."""
        key = self.get_object()
        roles.require_owner(request.user, key.account)
        keys.revoke(key=key, now=timezone.now())
        return Response(status=204)


def _in_state(state: str) -> Q:
    now = timezone.now()
    if state == "revoked":
        return Q(revoked_at__isnull=False)
    if state == "expired":
        return Q(revoked_at=None, expires_at__lte=now)
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))


class Members(viewsets.GenericViewSet[Membership]):
    """People of the account and their roles."""

    scope_area = "account"
    calls_are_free = True

    def get_queryset(self) -> QuerySet[Membership]:
        rows = Membership.objects.visible_to(self.request.user).filter(account=account_of(self.request))
        return rows.select_related("user", "account")

    def get_serializer_class(self) -> Any:
        found = {"create": shapes.MemberRequest, "partial_update": shapes.RoleRequest}
        return found.get(self.action, shapes.Nothing)

    @extend_schema(parameters=[shapes.MemberQuery], responses=shapes.MemberAnswer(many=True))
    def list(self, request: Request) -> Response:
        query = shapes.MemberQuery(data=request.query_params)
        rows = self.get_queryset().filter(**query.conditions())
        if "role" in query.validated_data:
            rows = rows.filter(role=query.validated_data["role"])
        if "email" in query.validated_data:
            rows = rows.filter(user__email=query.validated_data["email"].lower())
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(shapes.MemberAnswer(page, many=True).data)

    @extend_schema(request=shapes.MemberRequest, responses={201: shapes.MemberAnswer})
    def create(self, request: Request) -> Response:
        """Bring a person in: with a login here a member at once (`active`), else invited by mail (`invited`)."""
        account = account_of(request)
        roles.require_owner(request.user, account)
        asked = shapes.MemberRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        by = None if isinstance(request.user, keys.KeyPrincipal) else request.user
        came = invitations.invite(account=account, by=by, now=timezone.now(), **asked.validated_data)
        return Response(shapes.MemberAnswer(came).data, status=201)

    @extend_schema(responses=shapes.MemberAnswer)
    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(shapes.MemberAnswer(self.get_object()).data)

    @extend_schema(request=shapes.RoleRequest, responses=shapes.MemberAnswer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change the role. The last owner stays one."""
        membership = self.get_object()
        roles.require_owner(request.user, membership.account)
        asked = shapes.RoleRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        accounts.change_role(membership=membership, role=asked.validated_data["role"])
        return Response(shapes.MemberAnswer(membership).data)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        membership = self.get_object()
        roles.require_owner(request.user, membership.account)
        accounts.remove_member(membership=membership)
        return Response(status=204)


class Invitations(viewsets.GenericViewSet[Invitation]):
    """Invitations that wait for their people. `POST members` makes them."""

    scope_area = "account"
    calls_are_free = True

    def get_queryset(self) -> QuerySet[Invitation]:
        account = account_of(self.request)
        return Invitation.objects.open().filter(account=account).select_related("account")

    def get_serializer_class(self) -> Any:
        return shapes.Nothing

    @extend_schema(parameters=[shapes.WhenQuery], responses=shapes.MemberAnswer(many=True))
    def list(self, request: Request) -> Response:
        rows = self.get_queryset().filter(**shapes.WhenQuery(data=request.query_params).conditions())
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(shapes.MemberAnswer(page, many=True).data)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Withdraw an invitation; its link stops working."""
        invitation = self.get_object()
        roles.require_owner(request.user, invitation.account)
        invitations.revoke(invitation=invitation, now=timezone.now())
        return Response(status=204)
