"""`GET /metrics` for Prometheus: counts from the database and Redis, this process, and its HTTP answers.

No label ever names an account, a person or an id: a metric is about the machine.
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections.abc import Callable, Iterable

import redis
from django.apps import apps
from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ntd_site import heartbeats
from ntd_site.hub import hub

Respond = Callable[[HttpRequest], HttpResponse]
REREAD_SECONDS = 5
# What is counted by state: metric, model, column.
COUNTED = (
    ("ntd_accounts", "billing.Account", "status"),
    ("ntd_invoices", "billing.Invoice", "state"),
    ("ntd_executions", "sandboxes.Execution", "state"),
    ("ntd_long_lived_sandboxes", "sandboxes.Sandbox", "state"),
    ("ntd_federations", "federation.Federation", "topology"),
    ("ntd_agents", "federation.Agent", "availability"),
    ("ntd_tasks", "federation.Task", "state"),
    ("ntd_nodes", "scaling.Node", "status"),
)
QUEUES = ("default", "executions", "sweeps")
REQUESTS = Counter("ntd_http_requests", "HTTP answers.", ["method", "route", "status"])
SECONDS = Histogram(
    "ntd_http_request_seconds",
    "Time to answer, by route.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)


class MetricsMiddleware:
    """Counts answers by route pattern, so ids never become labels."""

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        response = self.get_response(request)
        match = request.resolver_match
        route = match.route if match else "(none)"
        method = request.method if request.method in ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE") else "other"
        REQUESTS.labels(method, route, str(response.status_code)).inc()
        SECONDS.labels(route).observe(time.perf_counter() - started)
        return response


class Product(Collector):
    """What the database and Redis hold, read at most every few seconds whoever asks."""

    def __init__(self) -> None:
        self._found: list[Metric] = []
        self._read_at = float("-inf")

    def collect(self) -> Iterable[Metric]:
        if time.monotonic() - self._read_at > REREAD_SECONDS:
            self._found = [*_rows(), *_redis(), _sockets()]
            self._read_at = time.monotonic()
        return self._found


def _rows() -> Iterable[Metric]:
    up = GaugeMetricFamily("ntd_database_up", "1 when the database answers.")
    found: list[Metric] = []
    try:
        found = [_by_state(*counted) for counted in COUNTED if _exists(counted[1])]
        up.add_metric([], 1)
    except DatabaseError:
        up.add_metric([], 0)
    return [*found, up]


def _exists(label: str) -> bool:
    app, model = label.split(".")
    return model.lower() in apps.all_models[app]


def _by_state(name: str, label: str, column: str) -> Metric:
    family = GaugeMetricFamily(name, f"{label} rows by {column}.", labels=[column])
    rows = apps.get_model(label)._default_manager.values_list(column).annotate(count=Count("pk")).order_by(column)
    for state, count in rows:
        family.add_metric([str(state)], count)
    return family


def _redis() -> Iterable[Metric]:
    up = GaugeMetricFamily("ntd_redis_up", "1 when Redis answers.")
    queued = GaugeMetricFamily("ntd_queue_length", "Background tasks waiting.", labels=["queue"])
    silent = GaugeMetricFamily("ntd_seconds_since_heard", "Since a part was last heard.", labels=["part"])
    try:
        client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1)
        for queue in QUEUES:
            queued.add_metric([queue], client.llen(queue))
        for part in ("workers", "scheduler"):
            seconds = heartbeats.seconds_since(part)
            silent.add_metric([part], float("inf") if seconds is None else seconds)
        up.add_metric([], 1)
    except redis.RedisError:
        up.add_metric([], 0)
    return [up, queued, silent]


def _sockets() -> Metric:
    family = GaugeMetricFamily("ntd_live_sockets", "Live sockets of this process.")
    family.add_metric([], len(hub.viewers))
    return family


PRODUCT = CollectorRegistry(auto_describe=False)
PRODUCT.register(Product())


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    if not _may_read(request):
        headers = {"WWW-Authenticate": 'Bearer realm="metrics"'}
        return HttpResponse("Metrics are for staff, or send METRICS_TOKEN as a bearer.\n", status=401, headers=headers)
    return HttpResponse(generate_latest(REGISTRY) + generate_latest(PRODUCT), content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    expected = settings.METRICS_TOKEN
    if expected and kind.lower() == "bearer" and hmac.compare_digest(token.encode(), expected.encode()):
        return True
    return _is_loopback(request) or bool(request.user.is_authenticated and request.user.is_staff)


def _is_loopback(request: HttpRequest) -> bool:
    """Straight from this machine: what a proxy on it passes on does not count."""
    if settings.NTD_BEHIND_PROXY or "HTTP_X_FORWARDED_FOR" in request.META or "HTTP_FORWARDED" in request.META:
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
