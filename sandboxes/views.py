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
from sandboxes import engine, executions, executor, lifecycle, pages, pools, programs
from sandboxes.forms import EXAMPLE, ExecutionForm, FilterForm, PoolForm
from sandboxes.models import Execution, Pool
from sandboxes.models.pools import Language
from sandboxes.runtimes import LABELS
from scaling import autoscaler

EDITORS = ("owner", "operator", "staff")
PARTS = {"head": "sandboxes/_execution_head.html", "side": "sandboxes/_execution_side.html"}
SHOWN_OUTPUT = 64 * 1024
# Why an execution was not taken, when it is not the fault of a field.
REFUSALS = {
    engine.EngineUnavailable: 503,
    executions.QueueFull: 429,
    executions.NetworkNotAllowed: 403,
    ledger.InsufficientCredits: 402,
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
    filters = FilterForm(request.GET)
    page = pages.newest(filters.narrow(rows), request)
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
    shown = {"execution": execution, **_about(execution)}
    if part in PARTS:
        return render(request, PARTS[part], shown)
    return render(request, "sandboxes/execution_detail.html", shown | {"log": _log(execution)})


def _one(rows: Any, account: Account, pk: UUID) -> Any:
    return get_object_or_404(rows, account=account, pk=pk)


def _about(execution: Execution) -> dict[str, Any]:
    words = ""
    if execution.breach:
        words = executor.breach_in_words(execution.breach, execution.limits, execution.timeout_seconds)
    stages = execution.stages()
    return {
        "breach_words": words,
        "stages": stages,
        "all_ms": sum(lasted for _, lasted in stages),
        "attempts": execution.attempts.order_by("number"),
        "artifacts": execution.kept_artifacts(),
        "memory_limit": execution.limits.get("memory_mb", 0) * 1024 * 1024,
        "disk_limit": execution.limits.get("disk_mb", 0) * 1024 * 1024,
    }


def _log(execution: Execution) -> dict[str, Any]:
    """The event stream for browsers with scripts; for others what a settled execution printed, up to a size."""
    events = f"/api/v1/executions/{execution.pk}"
    text = execution.stdout[:SHOWN_OUTPUT] + execution.stderr[:SHOWN_OUTPUT] if execution.is_settled else ""
    return {
        "id": execution.pk,
        "src": f"{events}/events",
        "download": f"{events}/output",
        "text": text,
        "done": execution.is_settled,
    }


@editors_only
def execution_new(request: HttpRequest, account: Account) -> HttpResponse:
    initial = {"code": EXAMPLE, "timeout_seconds": 60}
    form = ExecutionForm(request.POST or None, account=account, initial=initial)
    status = 200
    if request.method == "POST":
        submitted, status = _submit(request, account, form)
        if submitted is not None:
            return redirect("sandboxes:execution", account, submitted.pk)
    shown = {"form": form, "most_ucr": executions.most_cost_ucr(60)}
    return render(request, "sandboxes/execution_new.html", shown, status=status)


def _submit(request: HttpRequest, account: Account, form: ExecutionForm) -> tuple[Execution | None, int]:
    """The execution, or None with the form telling why and the status that says it."""
    if not form.is_valid():
        return None, 422
    try:
        execution = executions.submit(account=account, by=request.user, now=timezone.now(), **form.request())
    except programs.Refused as refused:
        form.take(refused)
        return None, 422
    except tuple(REFUSALS) as refused:
        form.add_error(None, str(refused))
        return None, REFUSALS[type(refused)]
    return execution, 302


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
    rows = Execution.objects.visible_to(request.user).filter(account=account).live().light()
    live = rows.select_related("pool").order_by("claimed_at", "pk")[:200]
    found = _pools(account)
    shown = {"executions": live, "pools": found, "said": _said(found)}
    partial = request.wants_partial
    return render(request, f"sandboxes/{'_sandbox_table' if partial else 'sandbox_list'}.html", shown)


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
    """What isolates here and elsewhere, what it promises, and what each probe said: the operator's."""
    if not request.user.is_staff:
        raise Http404
    runtimes = [(name, LABELS[name], engine.describe(name)) for name in engine.names()]
    back = reverse("sandboxes:pools", args=[account])
    return render(request, "sandboxes/engine.html", {"runtimes": runtimes, "back": back})
