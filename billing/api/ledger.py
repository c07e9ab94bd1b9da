"""`ledger/entries`, `ledger/transactions/{id}`, `ledger/verify`, `grants`, `holds`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, filters
from rest_framework.request import Request
from rest_framework.response import Response

from billing import corrections, ledger, verify
from billing.api import acting, serializers
from billing.models import Account, Entry, Grant, Hold, Transaction


class ByLine(filters.BaseFilterBackend):
    """A statement's order is that of its lines, which were given under the wallet's lock."""

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        return ("-line",)

    def filter_queryset(self, request: Request, queryset: Any, view: Any) -> Any:
        return queryset


class EntryViewSet(acting.BillingViewSet):
    """The statement of the account's wallet."""

    queryset = Entry.objects.none()
    filter_backends = [ByLine]
    query_serializers = {"list": serializers.EntryQuery}

    @extend_schema(parameters=[serializers.EntryQuery], responses=serializers.EntryAnswer(many=True))
    def list(self, request: Request) -> Response:
        asked = self.asked(request)
        rows = Entry.objects.statement_of(acting.account_of(request)).select_related("transaction")
        if "kind" in asked:
            rows = rows.filter(transaction__kind=asked["kind"])
        return self.page(acting.between(rows, asked), serializers.EntryAnswer)


class TransactionViewSet(acting.BillingViewSet):
    """One transaction with its legs; a customer sees the legs on wallets of their own."""

    queryset = Transaction.objects.none()
    idempotency_required = {"transfer", "reverse"}
    staff_actions = {"reverse"}
    request_serializers = {"transfer": serializers.TransferRequest, "reverse": serializers.ReverseRequest}

    @extend_schema(responses=serializers.TransactionAnswer)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        mine = Account.objects.visible_to(request.user)
        touches_mine = Q(account__in=mine) | Q(pk__in=_touching(pk, mine))
        return self._answer(request, get_object_or_404(Transaction.objects.filter(touches_mine), pk=pk))

    @extend_schema(request=serializers.TransferRequest, responses={201: serializers.TransactionAnswer})
    def transfer(self, request: Request) -> Response:
        """Move credits of the account to another one: an owner's act, who owns both, or staff's.

        What expires, is held or is an overdraft cannot be moved. A key may, if whoever made it owns both accounts.
        """
        given = self.given(request)
        moved = corrections.move(
            account=acting.account_of(request),
            to=given["to"],
            amount_ucr=given["amount"],
            reason=given["reason"],
            key=acting.act_key(request),
            now=timezone.now(),
            by=request.user,
            actor=acting.actor(request),
            request_id=acting.request_id(request),
        )
        return self._answer(request, moved, status=201)

    @extend_schema(request=serializers.ReverseRequest, responses={201: serializers.TransactionAnswer})
    def reverse(self, request: Request, pk: UUID) -> Response:
        """Take back what was spent, or given and not bought, by an opposite transaction, once; that is the answer."""
        found = get_object_or_404(Transaction.objects.all(), pk=pk)
        given = self.given(request)
        undone = corrections.take_back(
            found,
            key=acting.act_key(request),
            reason=given["reason"],
            now=timezone.now(),
            actor=acting.actor(request),
            request_id=acting.request_id(request),
        )
        return self._answer(request, undone, status=201)

    def _answer(self, request: Request, found: Transaction, status: int = 200) -> Response:
        legs = found.entries.select_related("ledger_account").order_by("pk")
        if not request.user.is_staff:
            legs = legs.filter(ledger_account__account__in=Account.objects.visible_to(request.user))
        found.shown_entries = legs
        found.reversal_id = Transaction.objects.filter(reverses=found).values_list("pk", flat=True).first()
        return Response(serializers.TransactionAnswer(found).data, status=status)


def _touching(pk: UUID, accounts: QuerySet[Account]) -> QuerySet[Entry]:
    legs = Entry.objects.filter(transaction=pk, ledger_account__account__in=accounts)
    return legs.values("transaction")


class VerifyViewSet(acting.BillingViewSet):
    """Whether the books are right."""

    pagination_class = None
    staff_only = True

    @extend_schema(responses=serializers.VerifyAnswer)
    def retrieve(self, request: Request) -> Response:
        """Check every invariant of the ledger; 200 also when one is broken."""
        checks = verify.checks()
        found = {"ok": all(check.ok for check in checks), "checks": checks}
        return Response(serializers.VerifyAnswer(found).data)


class GrantViewSet(acting.BillingViewSet):
    """Credits given or bought."""

    queryset = Grant.objects.none()
    staff_actions = {"create"}
    request_serializers = {"create": serializers.GrantRequest}
    query_serializers = {"list": serializers.GrantQuery}

    @extend_schema(parameters=[serializers.GrantQuery], responses=serializers.GrantAnswer(many=True))
    def list(self, request: Request) -> Response:
        asked = self.asked(request)
        rows = Grant.objects.filter(account=acting.account_of(request))
        return self.page(acting.between(rows, asked, "category"), serializers.GrantAnswer)

    @extend_schema(request=serializers.GrantRequest, responses={201: serializers.GrantAnswer})
    def create(self, request: Request) -> Response:
        """Give an account credits."""
        given, now = self.given(request), timezone.now()
        if given["expires_at"] is not None and given["expires_at"] <= now:
            raise exceptions.ValidationError({"expires_at": ["Must be in the future."]})
        made = ledger.grant(
            account_id=acting.visible_account(request, given["account"]).pk,
            amount_ucr=given["amount"],
            category=given["category"],
            priority=given["priority"],
            expires_at=given["expires_at"],
            reason=given["reason"],
            key=acting.act_key(request),
            source="api:grants",
            now=now,
            actor=acting.actor(request),
            request_id=acting.request_id(request),
        )
        return Response(serializers.GrantAnswer(made).data, status=201)


class HoldViewSet(acting.BillingViewSet):
    """Credits set aside: active -> captured | released | expired."""

    queryset = Hold.objects.none()
    idempotency_required = {"create", "capture", "release"}
    # Part of the work that they are for.
    charged_actions = frozenset(idempotency_required)
    request_serializers = {
        "create": serializers.HoldRequest,
        "capture": serializers.CaptureRequest,
        "release": serializers.Nothing,
    }
    query_serializers = {"list": serializers.HoldQuery}

    @extend_schema(parameters=[serializers.HoldQuery], responses=serializers.HoldAnswer(many=True))
    def list(self, request: Request) -> Response:
        asked = self.asked(request)
        rows = Hold.objects.filter(account=acting.account_of(request))
        return self.page(acting.between(rows, asked, "state"), serializers.HoldAnswer)

    @extend_schema(responses=serializers.HoldAnswer)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return _hold_answer(get_object_or_404(Hold.objects.visible_to(request.user), pk=pk))

    @extend_schema(request=serializers.HoldRequest, responses={201: serializers.HoldAnswer})
    def create(self, request: Request) -> Response:
        """Set credits aside for a while."""
        given, now = self.given(request), timezone.now()
        account = acting.account_of(request)
        held = ledger.hold(
            account_id=account.pk,
            amount_ucr=given["amount"],
            key=f"api:{account.pk}:{acting.act_key(request)}",
            expires_at=now + timedelta(seconds=given["expires_in_seconds"]),
            purpose=given["purpose"],
            api_key=acting.api_key(request),
            now=now,
        )
        return _hold_answer(held, status=201)

    @extend_schema(request=serializers.CaptureRequest, responses=serializers.HoldAnswer)
    def capture(self, request: Request, pk: UUID) -> Response:
        """Take up to the held amount and let the rest go."""
        held = get_object_or_404(Hold.objects.editable_by(request.user), pk=pk)
        amount_ucr = self.given(request)["amount"]
        with transaction.atomic():
            # The clock is read under the lock: an invoice that was made meanwhile is of before, and has none of it.
            ledger.lock_wallet(held.account_id)
            ledger.capture(
                hold_key=held.key,
                amount_ucr=amount_ucr,
                key=acting.act_key(request),
                source=f"api:holds:{held.pk}",
                now=timezone.now(),
                description=held.purpose or "Captured hold",
                actor=acting.actor(request),
                request_id=acting.request_id(request),
            )
        held.refresh_from_db()
        return _hold_answer(held)

    @extend_schema(request=None, responses=serializers.HoldAnswer)
    def release(self, request: Request, pk: UUID) -> Response:
        """Let all of it go."""
        held = get_object_or_404(Hold.objects.editable_by(request.user), pk=pk)
        self.given(request)
        if held.state != Hold.State.ACTIVE:
            raise ledger.HoldEnded(held.state)
        return _hold_answer(ledger.release(key=held.key, now=timezone.now()))


def _hold_answer(held: Hold, status: int = 200) -> Response:
    return Response(serializers.HoldAnswer(held).data, status=status)
