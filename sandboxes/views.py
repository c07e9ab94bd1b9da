"""Pages of executions, sandboxes, pools and the engine; those of templates are template_views.py's."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from billing import ledger
from billing.models import Account
from sandboxes import (
    engine,
    execution_page,
    executions,
    keeping,
    lifecycle,
    lifetimes,
    pages,
    pools,
    programs,
    vitals,
)
from sandboxes.forms import (
    EXAMPLE,
    HELLO,
    ExecutionForm,
    FilterForm,
    LifetimeForm,
    PoolForm,
    SandboxCodeForm,
    SandboxForm,
)
from sandboxes.models import Execution, Pool, Sandbox
from sandboxes.models.pools import Language
from sandboxes.runtimes import LABELS, LOCAL
from scaling import autoscaler
from scaling.models import Node

EDITORS = ("owner", "operator", "staff")
SANDBOX_PARTS = {
    "head": "sandboxes/_kept_head.html",
    "side": "sandboxes/_kept_side.html",
    "executions": "sandboxes/_kept_executions.html",
}
SHOWN_EXECUTIONS = 20
PARTS = {
    "head": "sandboxes/_execution_head.html",
    "left": "sandboxes/_execution_left.html",
    "side": "sandboxes/_execution_side.html",
    "usage": "sandboxes/_execution_usage.html",
}
# Why an execution was not taken, when it is not the fault of a field.
REFUSALS = {
    engine.EngineUnavailable: 503,
    executions.QueueFull: 429,
    executions.NetworkNotAllowed: 403,
    executions.SandboxIsBusy: 409,
    lifetimes.Ended: 410,
    ledger.InsufficientCredits: 402,
    ledger.BudgetExceeded: 402,
    ledger.AccountNotActive: 403,
    programs.TooLarge: 413,
}
View = Callable[..., HttpResponse]


def editors_only(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.role not in EDITORS:
            raise PermissionDenied("A viewer cannot change anything. Ask an owner for the operator role.")
        return view(request, *args, **kwargs)

    return guarded


@require_safe
def execution_list(request: HttpRequest, account: Account) -> HttpResponse:
    rows = Execution.objects.visible_to(request.user).filter(account=account).light().select_related("pool")
    filters = FilterForm(request.GET, account=account)
    page = pages.newest(filters.narrow(rows, now=timezone.now()), request)
    shown = {
        "page": page,
        "filters": filters,
        "states": lifecycle.EXECUTION_STATES,
        "languages": Language.choices,
    }
    partial = request.wants_partial
    return render(request, f"sandboxes/{'_execution_table' if partial else 'execution_list'}.html", shown)


@require_safe
def execution_row(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    rows = Execution.objects.visible_to(request.user).light().select_related("pool")
    return render(request, "sandboxes/_execution_row.html", {"execution": _one(rows, account, pk)})


@require_safe
def execution_detail(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    rows = Execution.objects.visible_to(request.user).select_related("pool", "template", "rerun_of", "created_by")
    part = request.GET.get("part", "")
    if part in PARTS:
        rows = rows.light()
    execution = _one(rows, account, pk)
    shown = {"execution": execution, **execution_page.about(execution)}
    if part in PARTS:
        return render(request, PARTS[part], shown)
    return render(request, "sandboxes/execution_detail.html", shown | {"log": execution_page.log(execution)})


def _minute_ucr(account: Account) -> int:
    return executions.cost_now_ucr(account.pk, 60, timezone.now())


def _one(rows: Any, account: Account, pk: UUID) -> Any:
    return get_object_or_404(rows, account=account, pk=pk)


@editors_only
def execution_new(request: HttpRequest, account: Account) -> HttpResponse:
    initial = {"code": EXAMPLE, "timeout_seconds": 60}
    form = ExecutionForm(request.POST or None, account=account, initial=initial)
    status = 200
    if request.method == "POST":
        submitted, status = _submit(request, account, form)
        if submitted is not None:
            return redirect("sandboxes:execution", account, submitted.pk)
    shown = {"form": form, "minute_ucr": _minute_ucr(account)}
    return render(request, "sandboxes/execution_new.html", shown, status=status)


def _submit(request: HttpRequest, account: Account, form: ExecutionForm) -> tuple[Execution | None, int]:
    return _asked(
        form, lambda: executions.submit(account=account, by=request.user, now=timezone.now(), **form.request())
    )


def _asked(form: Any, act: Callable[[], Any]) -> tuple[Any, int]:
    """What came of it, or None with the form telling why and the status that says it."""
    if not form.is_valid():
        return None, 422
    try:
        return act(), 302
    except programs.Refused as refused:
        form.take(refused)
        return None, 422
    except tuple(REFUSALS) as refused:
        form.add_error(None, str(refused))
        return None, REFUSALS[type(refused)]


@require_POST
@editors_only
def execution_cancel(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    execution = _one(Execution.objects.editable_by(request.user).light(), account, pk)
    try:
        executions.cancel(execution=execution, by=request.user, now=timezone.now())
        messages.success(request, f"Stopped {execution.name}.")
    except lifecycle.IllegalMove:
        messages.warning(request, f"{execution.name} had ended already.")
    if request.wants_partial:
        execution = _one(Execution.objects.visible_to(request.user).light().select_related("pool"), account, pk)
        return render(request, "sandboxes/_execution_row.html", {"execution": execution})
    return redirect("sandboxes:execution", account, pk)


@require_POST
@editors_only
def execution_rerun(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    execution = _one(Execution.objects.editable_by(request.user).select_related("pool", "account"), account, pk)
    try:
        again = executions.rerun(execution=execution, by=request.user, now=timezone.now())
    except (programs.Refused, *REFUSALS) as refused:
        messages.error(request, str(refused))
        return redirect("sandboxes:execution", account, pk)
    return redirect("sandboxes:execution", account, again.pk)


@require_safe
def sandbox_list(request: HttpRequest, account: Account) -> HttpResponse:
    rows = Execution.objects.visible_to(request.user).filter(account=account, kept_sandbox=None).live().light()
    live = rows.select_related("pool").order_by("claimed_at", "pk")[:200]
    found = _pools(account)
    shown = {"executions": live, "pools": found, "said": _said(found)}
    part = request.GET.get("part", "")
    if request.wants_partial and part != "kept":
        return render(request, "sandboxes/_sandbox_table.html", shown)
    own = Sandbox.objects.visible_to(request.user).filter(account=account)
    is_past = request.GET.get("show") == "ended"
    wanted = own.exclude(state__in=lifecycle.SANDBOX_OPEN) if is_past else own.open()
    page = pages.newest(wanted.select_related("template").with_activity(), request)
    shown |= {"page": page, "is_past": is_past, "open_count": own.open().count()}
    _add_last_executions(page.results)
    return render(request, f"sandboxes/{'_kept_table' if request.wants_partial else 'sandbox_list'}.html", shown)


def _add_last_executions(found: list[Sandbox]) -> None:
    """One look for all rows of a page."""
    last = Execution.objects.light().in_bulk([row.last_execution for row in found if row.last_execution])
    for row in found:
        row.last = last.get(row.last_execution)


def _sandbox(request: HttpRequest, account: Account, pk: UUID) -> Sandbox:
    rows = Sandbox.objects.visible_to(request.user).select_related("template", "created_by").with_activity()
    found: Sandbox = _one(rows, account, pk)
    _add_last_executions([found])
    return found


@require_safe
def sandbox_row(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    return render(request, "sandboxes/_kept_row.html", {"sandbox": _sandbox(request, account, pk)})


@require_safe
def sandbox_detail(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    part = request.GET.get("part", "")
    return _show_sandbox(request, account, pk, template=SANDBOX_PARTS.get(part, "sandboxes/kept_detail.html"))


def _show_sandbox(
    request: HttpRequest, account: Account, pk: UUID, *, template: str, form: SandboxCodeForm | None = None, status=200
) -> HttpResponse:
    sandbox = _sandbox(request, account, pk)
    rows = sandbox.executions.light().order_by("-created_at", "-pk")
    shown = {
        "sandbox": sandbox,
        "executions": rows[:SHOWN_EXECUTIONS],
        "form": form or SandboxCodeForm(initial={"code": HELLO[sandbox.language]}),
        "lifetime": LifetimeForm(),
        "minute_ucr": _minute_ucr(account),
    }
    return render(request, template, shown, status=status)


@editors_only
def sandbox_new(request: HttpRequest, account: Account) -> HttpResponse:
    form = SandboxForm(request.POST or None, account=account)
    status = 200
    if request.method == "POST":
        opened, status = _open_sandbox(request, account, form)
        if opened is not None:
            return redirect("sandboxes:sandbox", account, opened.pk)
    shown = {"form": form, "minute_ucr": _minute_ucr(account)}
    return render(request, "sandboxes/kept_new.html", shown, status=status)


def _open_sandbox(request: HttpRequest, account: Account, form: SandboxForm) -> tuple[Sandbox | None, int]:
    return _asked(
        form,
        lambda: keeping.open_sandbox(account=account, by=request.user, now=timezone.now(), **form.request()),
    )


@require_POST
@editors_only
def sandbox_run(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    sandbox = _one(Sandbox.objects.editable_by(request.user), account, pk)
    form = SandboxCodeForm(request.POST)
    given = {"account": account, "sandbox": str(sandbox.pk), "by": request.user, "now": timezone.now()}
    submitted, status = _asked(form, lambda: executions.submit(**given, **form.request()))
    if submitted is not None:
        return redirect("sandboxes:execution", account, submitted.pk)
    return _show_sandbox(request, account, pk, template="sandboxes/kept_detail.html", form=form, status=status)


@require_POST
@editors_only
def sandbox_extend(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    sandbox = _one(Sandbox.objects.editable_by(request.user), account, pk)
    form = LifetimeForm(request.POST)
    try:
        if form.is_valid():
            keeping.extend(sandbox=sandbox, by=request.user, now=timezone.now(), **form.cleaned_data)
            messages.success(request, f"{sandbox.name} has more time.")
    except programs.Refused as refused:
        messages.error(request, f"A sandbox lives 24 hours at most. {' '.join(refused.errors['ttl_seconds'])}")
    except lifetimes.Ended as ended:
        messages.error(request, str(ended))
    return redirect("sandboxes:sandbox", account, pk)


@require_POST
@editors_only
def sandbox_close(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    sandbox = _one(Sandbox.objects.editable_by(request.user), account, pk)
    keeping.close(sandbox=sandbox, by=request.user, now=timezone.now())
    messages.success(request, f"Ended {sandbox.name}. Its files are gone.")
    return redirect("sandboxes:sandboxes", account)


def _pools(account: Account) -> list[Pool]:
    found = Pool.objects.usable_by(account).select_related("template").with_counts()
    rows = list(found.order_by("created_at", "pk"))
    for pool in rows:
        pool.counts = pools.counts(pool)
    return rows


def _said(found: list[Pool]) -> dict[str, Any]:
    """Whether anything of these pools can run, and if not, why; each pool learns it of itself."""
    wanted = dict.fromkeys(name for pool in found for name in pool.all_runtimes)
    why = {name: engine.reasons(name) for name in wanted}
    for pool in found:
        said = [why[name] for name in pool.all_runtimes]
        pool.reasons = [reason for reasons in said for reason in reasons] if all(said) else []
    is_up = not all(why.values())
    return {"engine": is_up, "reasons": [] if is_up else [reason for said in why.values() for reason in said]}


def _add_decisions(found: list[Pool]) -> None:
    """Why each pool has the size it has; scaling is the operator's."""
    latest = autoscaler.latest(pools.SCALING_TYPE)
    for pool in found:
        pool.decision = latest.get(str(pool.pk))


@require_safe
def pool_list(request: HttpRequest, account: Account) -> HttpResponse:
    found = _pools(account)
    if request.user.is_staff:
        _add_decisions(found)
    shown = {"pools": found, "said": _said(found)}
    partial = request.wants_partial
    return render(request, f"sandboxes/{'_pool_cards' if partial else 'pool_list'}.html", shown)


@editors_only
def pool_new(request: HttpRequest, account: Account) -> HttpResponse:
    form = PoolForm(request.POST or None, account=account)
    if request.method == "POST" and form.is_valid():
        saved = _save_pool(form, lambda: pools.open_pool(account=account, by=request.user, **form.request()))
        if saved is not None:
            messages.success(request, f"Opened the pool {saved.name}.")
            return redirect("sandboxes:pools", account)
    return render(request, "sandboxes/pool_form.html", {"form": form}, status=422 if form.errors else 200)


@editors_only
def pool_edit(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    pool = get_object_or_404(Pool.objects.editable_by(request.user).usable_by(account), pk=pk)
    plain = ("name", "template", "min_size", "max_size", "idle_timeout_seconds", "max_age_seconds")
    initial = {name: getattr(pool, name) for name in plain} | pool.limits | {"runtimes": ",".join(pool.runtimes)}
    form = PoolForm(request.POST or None, account=account, initial=initial)
    if request.method == "POST" and form.is_valid():
        saved = _save_pool(form, lambda: pools.change_pool(pool=pool, changes=form.request(), by=request.user))
        if saved is not None:
            messages.success(request, f"Changed the pool {saved.name}.")
            return redirect("sandboxes:pools", account)
    shown = {"form": form, "pool": pool}
    return render(request, "sandboxes/pool_form.html", shown, status=422 if form.errors else 200)


def _save_pool(form: PoolForm, save: Callable[[], Pool]) -> Pool | None:
    try:
        return save()
    except programs.Refused as refused:
        for name, said in refused.errors.items():
            form.add_error(name.removeprefix("limits."), said)
    except pools.NameTaken as taken:
        form.add_error("name", str(taken))
    except pools.Stranded as stranded:
        form.add_error("runtimes" if "runtimes" in form.fields else None, str(stranded))
    return None


@require_POST
@editors_only
def pool_close(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    pool = get_object_or_404(Pool.objects.editable_by(request.user).usable_by(account), pk=pk)
    try:
        pools.close_pool(pool=pool, by=request.user)
        messages.success(request, f"Closed the pool {pool.name}.")
    except pools.PoolInUse as refused:
        messages.error(request, str(refused))
    return redirect("sandboxes:pools", account)


@require_safe
def engine_page(request: HttpRequest, account: Account) -> HttpResponse:
    """What isolates on each node and elsewhere, what it promises, and what each probe said: the operator's."""
    if not request.user.is_staff:
        raise Http404
    shown = {
        "engines": vitals.engines(Node.objects.visible_to(request.user), now=timezone.now()),
        "runtimes": [(name, LABELS[name], engine.describe(name)) for name in engine.names() if name != LOCAL],
        "back": reverse("sandboxes:pools", args=[account]),
    }
    return render(request, "sandboxes/engine.html", shown)
