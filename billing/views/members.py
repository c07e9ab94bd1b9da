"""Settings of an account: its members, API keys, and what it says about itself."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from billing import accounts, books, details, invitations, keys, ledger, pricing, roles
from billing.models import Account, ApiKey, Invitation, Membership, Role
from billing.person_forms import AccountForm, InviteForm, KeyForm, RoleForm


@require_http_methods(["GET", "HEAD", "POST"])
def members(request: HttpRequest, account: Account) -> HttpResponse:
    """The list, and inviting."""
    form = InviteForm(request.POST or None)
    if request.method == "POST":
        roles.require_owner(request.user, account)
        if form.is_valid() and _invite(request, account, form):
            return redirect("billing:members", account)
    now = timezone.now()
    context = {
        "form": form,
        "roles": Role.choices,
        "is_owner": roles.is_owner(request.user, account),
        "members": account.memberships.select_related("user").order_by("created_at", "pk"),
        "invitations": account.invitations.open().filter(expires_at__gt=now).order_by("created_at", "pk"),
    }
    return render(request, "billing/members.html", context, status=422 if form.errors else 200)


def _invite(request: HttpRequest, account: Account, form: InviteForm) -> bool:
    try:
        came = invitations.invite(account=account, by=request.user, now=timezone.now(), **form.cleaned_data)
    except (invitations.MemberAlready, invitations.TooManyInvitations) as refused:
        form.add_error("email", str(refused))
        return False
    email = form.cleaned_data["email"]
    joined = isinstance(came, Membership)
    messages.success(request, f"{email} is a member now." if joined else f"An invitation is on its way to {email}.")
    return True


@require_POST
def member_role(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_owner(request.user, account)
    membership = get_object_or_404(account.memberships.select_related("user"), pk=pk)
    form = RoleForm(request.POST)
    if not form.is_valid():
        raise BadRequest("Choose a role.")
    accounts.change_role(membership=membership, role=form.cleaned_data["role"])
    messages.success(request, f"{membership.user} is {membership.role} now.")
    return redirect("billing:members", account)


@require_POST
def member_remove(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """Owners remove anybody; everybody may leave."""
    membership = get_object_or_404(account.memberships.select_related("user"), pk=pk)
    leaves = membership.user_id == request.user.pk
    if not leaves:
        roles.require_owner(request.user, account)
    accounts.remove_member(membership=membership)
    messages.success(request, f"You left {account}." if leaves else f"{membership.user} is no member any more.")
    return redirect("home") if leaves and not request.user.is_staff else redirect("billing:members", account)


@require_POST
def invitation_revoke(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_owner(request.user, account)
    invitation = get_object_or_404(Invitation.objects.filter(account=account), pk=pk)
    if not invitations.revoke(invitation=invitation, now=timezone.now()):
        raise invitations.NoLongerOpen
    messages.success(request, f"The invitation of {invitation.email} is withdrawn.")
    return redirect("billing:members", account)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def api_keys(request: HttpRequest, account: Account) -> HttpResponse:
    """The list, and making a key, whose secret is in this one answer and nowhere else."""
    form = KeyForm(request.POST or None, may_scale=request.user.is_staff)
    now = timezone.now()
    secret = None
    if request.method == "POST":
        roles.require_owner(request.user, account)
        if form.is_valid():
            said = {"name": form.cleaned_data["name"], "scopes": form.cleaned_data["scopes"]}
            _, secret = keys.create(account=account, by=request.user, now=now, expires_at=form.expires_at(now), **said)
            form = KeyForm(may_scale=request.user.is_staff)
    context = {
        "form": form,
        "secret": secret,
        "is_owner": roles.is_owner(request.user, account),
        "keys": ApiKey.objects.filter(account=account, revoked_at=None).order_by("-created_at", "-pk"),
        "now": now,
        "scope_count": len(keys.SCOPES),
        "api_call": books.price_of(account_id=account.pk, meter=pricing.Meter.API_CALL, at=now),
    }
    return render(request, "billing/api_keys.html", context, status=422 if form.errors else 200)


@require_POST
def api_key_revoke(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_owner(request.user, account)
    key = get_object_or_404(ApiKey.objects.filter(account=account), pk=pk)
    keys.revoke(key=key, now=timezone.now())
    messages.success(request, f"The key {key.name} is revoked; calls with it fail from now on.")
    return redirect("billing:api-keys", account)


@require_http_methods(["GET", "HEAD", "POST"])
def account_settings(request: HttpRequest, account: Account) -> HttpResponse:
    form = AccountForm(request.POST or None, instance=Account.objects.get(pk=account.pk))
    if request.method == "POST":
        roles.require_owner(request.user, account)
        if form.is_valid() and _changed(account, form):
            messages.success(request, "The account is saved.")
            return redirect("billing:account", account)
    context = {
        "form": form,
        "is_owner": roles.is_owner(request.user, account),
        "balance": ledger.balance(account_id=account.pk, now=timezone.now()),
    }
    return render(request, "billing/account.html", context, status=422 if form.errors else 200)


def _changed(account: Account, form: AccountForm) -> bool:
    try:
        details.change(account=account, changes=form.cleaned_data, is_staff=False, now=timezone.now())
    except details.BadDetail as wrong:
        form.add_error(wrong.field, str(wrong))
        return False
    return True
