"""`account`, `account/balance`."""

from __future__ import annotations

import re

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from billing import alerts, auto_top_ups, details, ledger, roles
from billing.api import acting, serializers
from billing.models import Account

VERSION = re.compile(r'(?:W/)?"?([0-9]{1,9})"?')
IF_MATCH = OpenApiParameter(
    "If-Match",
    {"type": "string", "pattern": f"^({VERSION.pattern})$"},
    OpenApiParameter.HEADER,
    description="The `version` that was read.",
)


class AccountViewSet(acting.BillingViewSet):
    """The account the request acts in."""

    pagination_class = None
    request_serializers = {"partial_update": serializers.AccountChange}

    @extend_schema(responses=serializers.AccountAnswer)
    def retrieve(self, request: Request) -> Response:
        return _answer(acting.account_of(request))

    @extend_schema(request=serializers.AccountChange, responses=serializers.AccountAnswer, parameters=[IF_MATCH])
    def partial_update(self, request: Request) -> Response:
        """Change some facts. `status`, `tax_rate` and `overdraft_credits` are staff's; `auto_topup` null ends it."""
        account, given = acting.account_of(request), self.given(request)
        if "auto_topup" in given:
            roles.require_payer(request.user, account)
        changed = details.change(
            account=account,
            changes=given,
            now=timezone.now(),
            is_staff=request.user.is_staff,
            version=_version(request),
        )
        return _answer(changed)

    @extend_schema(responses=serializers.BalanceAnswer)
    def balance(self, request: Request) -> Response:
        account = acting.account_of(request)
        found = ledger.balance(account_id=account.pk, now=timezone.now())
        return Response(serializers.BalanceAnswer(found).data)


def _version(request: Request) -> int | None:
    given = request.headers.get("If-Match")
    if given is None or given == "*":
        return None
    found = VERSION.fullmatch(given)
    if found is None:
        raise exceptions.ValidationError({"If-Match": ['Send the version, for example 3 or "3".']})
    return int(found[1])


def _answer(account: Account) -> Response:
    overdraft = ledger.balance(account_id=account.pk, now=timezone.now()).overdraft_ucr
    account.wallet_overdraft_ucr = overdraft
    account.low_balance_ucr = alerts.low_balance_of(account)
    account.auto_topup = auto_top_ups.of(account)
    return Response(serializers.AccountAnswer(account).data, headers={"ETag": f'"{account.version}"'})
