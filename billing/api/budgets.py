"""`budgets` and `alerts`: limits of an account's own, and what was told of them."""

from __future__ import annotations

from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from billing import budgets, roles
from billing.api import acting
from billing.api import budget_serializers as shapes
from billing.api.serializers import Nothing
from billing.models import Alert, Budget


class BudgetViewSet(acting.BillingViewSet):
    """What may be spent in a window, on all of the account or on one agent, API key or meter."""

    queryset = Budget.objects.none()
    request_serializers = {
        "create": shapes.BudgetRequest,
        "partial_update": shapes.BudgetChange,
        "destroy": Nothing,
    }
    query_serializers = {"list": shapes.BudgetQuery}

    @extend_schema(parameters=[shapes.BudgetQuery], responses=shapes.BudgetAnswer(many=True))
    def list(self, request: Request) -> Response:
        account = acting.account_of(request)
        rows = acting.between(Budget.objects.filter(account=account), self.asked(request), "scope", "action")
        found = self.paginate_queryset(rows) or []
        stands = budgets.standings(account, found, now=timezone.now())
        return self.get_paginated_response(shapes.BudgetAnswer(stands, many=True).data)

    @extend_schema(request=shapes.BudgetRequest, responses={201: shapes.BudgetAnswer})
    def create(self, request: Request) -> Response:
        """Make a budget. One that blocks answers what would exceed it with 402 `budget_exceeded`."""
        account = acting.account_of(request)
        roles.require_payer(request.user, account)
        given = self.given(request)
        made = budgets.create(
            account=account,
            scope=given["scope"],
            target=given["target"] or "",
            period=given["window"],
            limit_ucr=given["limit"],
            action=given["action"],
            thresholds=given["thresholds"],
            now=timezone.now(),
        )
        return _answer(made, status=201)

    @extend_schema(responses=shapes.BudgetAnswer)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return _answer(_visible(request, pk))

    @extend_schema(request=shapes.BudgetChange, responses=shapes.BudgetAnswer)
    def partial_update(self, request: Request, pk: UUID) -> Response:
        budget = _owned(request, pk)
        given = self.given(request)
        if "limit" in given:
            given["limit_ucr"] = given.pop("limit")
        return _answer(budgets.change(budget=budget, **given))

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        budgets.remove(budget=_owned(request, pk))
        return Response(status=204)


def _visible(request: Request, pk: UUID) -> Budget:
    found: Budget = get_object_or_404(Budget.objects.visible_to(request.user).select_related("account"), pk=pk)
    return found


def _owned(request: Request, pk: UUID) -> Budget:
    budget = _visible(request, pk)
    roles.require_payer(request.user, budget.account)
    return budget


def _answer(budget: Budget, status: int = 200) -> Response:
    (stands,) = budgets.standings(budget.account, [budget], now=timezone.now())
    return Response(shapes.BudgetAnswer(stands).data, status=status)


class AlertViewSet(acting.BillingViewSet):
    """What the owners were told: thresholds, refusals, low credits."""

    queryset = Alert.objects.none()
    query_serializers = {"list": shapes.AlertQuery}

    @extend_schema(parameters=[shapes.AlertQuery], responses=shapes.AlertAnswer(many=True))
    def list(self, request: Request) -> Response:
        rows = Alert.objects.filter(account=acting.account_of(request))
        return self.page(acting.between(rows, self.asked(request), "kind"), shapes.AlertAnswer)
