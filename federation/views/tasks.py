"""Pages of tasks, results and a customer's own strategies."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing.models import Account
from federation import (
    attempts,
    coordination,
    dependencies,
    family,
    lanes,
    pages,
    predictions,
    readings,
    results,
    submission,
    workloads,
)
from federation.forms import SAMPLES, StrategyForm, TaskFilter, TaskForm
from federation.models import Attempt, Federation, Task
from federation.views.shared import editors_only, one, one_to_edit, tab, task_of

SHOWN_JSON = 20_000
SHOWN_FAMILY = 60


@require_safe
def task_list(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one(request, account, pk)
    filters = TaskFilter(request.GET)
    rows = Task.objects.light().filter(federation=federation).select_related("assigned_to")
    shown = {"page": pages.newest(filters.narrow(rows), request), "filters": filters, "states": Task.State.values}
    shown["types"] = sorted(set(rows.order_by().values_list("type", flat=True).distinct()[:50]))
    return tab(request, federation, "tasks", shown, part="_task_table")


@require_safe
def task_row(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    task = task_of(request, account, pk)
    return render(request, "federation/_task_row.html", {"task": task, "federation": task.federation})


@require_http_methods(["GET", "HEAD", "POST"])
@editors_only
def task_new(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one_to_edit(request, account, pk)
    type = request.GET.get("type", "")
    samples = _samples(federation, request.GET.get("model", ""))
    initial = {"type": type, "payload": samples[type]} if type in samples else None
    form = TaskForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        submitted = _submit(request, federation, form, coordination.Order(**form.cleaned_data))
        if submitted is not None:
            return redirect("federation:task", account, submitted.pk)
    return tab(request, federation, "task_new", {"form": form, "samples": samples}, status=422 if form.errors else 200)


def _samples(federation: Federation, model: str) -> dict[str, str]:
    """What a task of each type may begin with; a prediction with the model asked for, or the newest."""
    wanted = model or str(predictions.newest_model(federation.pk) or "the id of a train task that succeeded")
    return {**SAMPLES, workloads.INFER: json.dumps({"model": wanted}, indent=2)}


@require_http_methods(["GET", "HEAD", "POST"])
@editors_only
def strategy_new(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """A customer's own strategy, backtested by whichever managed agent has room."""
    federation = one_to_edit(request, account, pk)
    form = StrategyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        order = coordination.Order(type=workloads.STRATEGY, payload=form.payload(), max_attempts=2, priority=7)
        submitted = _submit(request, federation, form, order)
        if submitted is not None:
            return redirect("federation:task", account, submitted.pk)
    return tab(request, federation, "strategy_new", {"form": form}, status=422 if form.errors else 200)


def _submit(request: HttpRequest, federation: Any, form: Any, order: coordination.Order) -> Task | None:
    try:
        return coordination.submit_task(federation=federation, order=order, by=request.user, now=timezone.now())
    except coordination.NoAgents as none:
        form.add_error(None, str(none))
    except submission.BadOrder as bad:
        for name, sentences in bad.extras["errors"].items():
            form.add_error(name if name in form.fields else None, sentences)
    return None


@require_safe
def task_detail(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    task = task_of(request, account, pk)
    shown = {"task": task, **_about(task)}
    return tab(request, task.federation, "task", shown, part="_task_body")


def _about(task: Task) -> dict[str, Any]:
    tried = Attempt.objects.filter(task=task).select_related("agent", "execution").order_by("epoch")
    tried = list(tried.defer("execution__code", "execution__files", "execution__stdin"))
    found = results.read(task)
    drawn = lanes.draw(
        [lanes.Stretch(each.assigned_at, each.started_at, each.ended_at) for each in tried],
        created_at=task.created_at,
        finished_at=task.finished_at,
        now=timezone.now(),
    )
    code, payload = _apart(task.payload)
    return {
        "attempts": tried,
        "waiting_lane": drawn[0],
        "lanes": list(zip(tried, drawn[1:], strict=True)),
        "family": _family(task),
        "cost_ucr": sum(attempt.full_cost_ucr for attempt in tried),
        "found": found,
        "chart": results.curves_of(found) if found else None,
        "code": code,
        "payload": _pretty(payload),
        "result": None if found else _pretty(task.result),
        "reading": None if found else readings.of(type=task.type, result=task.result),
    }


def _family(task: Task) -> dict[str, Any] | None:
    """What it needs and what needs it, to be drawn; None for a task that stands alone."""
    tasks, links = dependencies.around(task, most=SHOWN_FAMILY)
    if len(tasks) < 2:
        return None
    drawing = family.draw([each.pk for each in tasks], links, task.pk)
    boxes = [(each, drawing.places[each.pk]) for each in tasks]
    return {"drawing": drawing, "boxes": boxes, "is_cut": len(tasks) == SHOWN_FAMILY}


def _apart(payload: Any) -> tuple[str, Any]:
    """Source code reads better as such than inside JSON."""
    if not isinstance(payload, dict):
        return "", payload
    code = payload.get("code") or payload.get("source") or ""
    rest = {name: value for name, value in payload.items() if name not in ("code", "source")}
    return (code, rest) if isinstance(code, str) else ("", payload)


def _pretty(value: Any) -> str:
    if value in (None, {}):
        return ""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= SHOWN_JSON else text[:SHOWN_JSON] + "\n… (cut; the API gives all of it)"


@require_POST
@editors_only
def task_cancel(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    return _act(request, account, pk, coordination.cancel_task, "Cancelled")


@require_POST
@editors_only
def task_retry(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    return _act(request, account, pk, coordination.retry_task, "Queued again:")


def _act(request: HttpRequest, account: Account, pk: UUID, act: Any, words: str) -> HttpResponse:
    rows = Task.objects.editable_by(request.user).light()
    task = get_object_or_404(rows, federation__account=account, pk=pk)
    try:
        act(task=task, now=timezone.now())
        messages.success(request, f"{words} {task}.")
    except (attempts.TaskSettled, dependencies.NeedsAnother) as refused:
        messages.warning(request, str(refused))
    if request.wants_partial:
        return render(request, "federation/_task_row.html", {"task": task_of(request, account, pk)})
    return redirect("federation:task", account, pk)


@require_safe
def result_table(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """All of it, or (`?brief`) what the page of the topology shows of it."""
    federation = one(request, account, pk)
    if "brief" in request.GET:
        shown = {"table": results.table(federation, width=results.BESIDE)}
        return tab(request, federation, "results", shown, part="_result_brief")
    return tab(request, federation, "results", {"table": results.table(federation)}, part="_result_table")
