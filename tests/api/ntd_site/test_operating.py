"""/health, /metrics, the staff's settings, the test clock, the schema and its page."""

from __future__ import annotations

import json
import socket
from datetime import timedelta

import pytest
import yaml
from django.apps import apps
from django.conf import settings as django_settings
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from ntd_site import clock, clock_door, health, heartbeats, metrics, schedules
from ntd_site.celery import app
from sandboxes import engine
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def stella(client):
    client.force_login(factories.make_staff())
    return client


class TestHealth:
    def test_it_names_what_is_missing_with_503(self, client, settings):
        settings.SANDBOX_SOCKET = "/nowhere/sandboxes.sock"

        response = client.get("/health")

        parts = response.json()["parts"]
        assert response.status_code == 503
        assert response.json()["live"] is True
        assert set(parts) == {"database", "migrations", "redis", "workers", "scheduler", "sandbox_daemon"}
        assert parts["database"]["ok"]
        assert parts["migrations"]["ok"]
        assert parts["redis"]["ok"]
        assert not parts["sandbox_daemon"]["ok"]

    @pytest.fixture
    def listening(self, settings, tmp_path):
        """A daemon's socket, workers and a scheduler that were heard just now."""
        with socket.socket(socket.AF_UNIX) as listener:
            settings.SANDBOX_SOCKET = str(tmp_path / "s")
            listener.bind(settings.SANDBOX_SOCKET)
            listener.listen()
            heartbeats.beat("workers")
            heartbeats.beat("scheduler")
            yield

    def test_it_is_200_when_all_is_there(self, client, listening):
        assert client.get("/health").status_code == 200

    def test_the_cloud_is_a_part_of_its_own_and_never_needed_while_pools_run_here(self, client, listening, e2b):
        assert client.get("/health").json()["parts"]["e2b"]["ok"]
        e2b.reasons = ["E2B does not let us in."]
        engine.forget("e2b")

        response = client.get("/health")

        assert response.status_code == 200
        assert response.json()["parts"]["e2b"]["ok"] is False

    def test_where_pools_run_in_the_cloud_too_one_of_both_is_enough(self, client, listening, e2b, settings):
        settings.DEFAULT_RUNTIMES = ["local", "e2b"]
        settings.SANDBOX_SOCKET = "/nowhere/sandboxes.sock"

        assert client.get("/health").status_code == 200
        e2b.reasons = ["E2B does not let us in."]
        engine.forget("e2b")
        assert client.get("/health").status_code == 503

    def test_silence_of_the_workers_is_noticed(self, client, monkeypatch):
        monkeypatch.setattr(heartbeats, "seconds_since", lambda part: 31.0)

        assert client.get("/health").json()["parts"]["workers"] == pytest.approx(
            {"ok": False, "detail": "Heard 31 s ago.", "milliseconds": 0}, abs=1000
        )

    def test_redis_away_is_503_and_not_500(self, client, settings, monkeypatch):
        settings.REDIS_URL = "unix:///nowhere/valkey.sock"

        response = client.get("/health")

        assert response.status_code == 503
        assert response.json()["parts"]["redis"]["ok"] is False

    def test_it_answers_reads_only(self, client):
        assert client.post("/health").status_code == 405

    def test_a_second_look_asks_the_database_once(self, client, django_assert_num_queries):
        client.get("/health")

        with django_assert_num_queries(1):
            client.get("/health")
        assert health._migrated


class TestMetrics:
    @pytest.fixture(autouse=True)
    def _read_anew(self, monkeypatch):
        monkeypatch.setattr(metrics, "REREAD_SECONDS", -1)

    def test_it_is_open_on_loopback(self, client):
        factories.make_account()

        text = client.get("/metrics").content.decode()

        assert 'ntd_accounts{status="active"}' in text
        assert "ntd_database_up 1.0" in text
        assert "ntd_redis_up 1.0" in text
        assert 'ntd_queue_length{queue="default"}' in text
        assert "ntd_http_requests_total" in text

    @pytest.mark.parametrize(("name", "label", "column"), metrics.COUNTED)
    def test_what_is_counted_is_there(self, name, label, column):
        assert apps.get_model(label)._meta.get_field(column)

    def test_no_label_names_an_account(self, client):
        account = factories.make_account()
        client.force_login(account.memberships.get().user)
        client.get(reverse("billing:members", args=[account]))

        text = client.get("/metrics").content.decode()

        assert account.slug not in text
        assert str(account.pk) not in text

    @pytest.mark.parametrize("extra", [{"REMOTE_ADDR": "10.0.0.1"}, {"HTTP_X_FORWARDED_FOR": "10.0.0.1"}])
    def test_others_need_a_token_or_staff(self, client, extra, settings):
        settings.METRICS_TOKEN = "t0ken"

        assert client.get("/metrics", **extra).status_code == 401
        assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer wrong", **extra).status_code == 401
        assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer t0ken", **extra).status_code == 200
        client.force_login(factories.make_user())
        assert client.get("/metrics", **extra).status_code == 401
        client.force_login(factories.make_staff())
        assert client.get("/metrics", **extra).status_code == 200

    def test_an_empty_token_opens_nothing(self, client, settings):
        settings.METRICS_TOKEN = ""

        assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer ", REMOTE_ADDR="10.0.0.1").status_code == 401


class TestSystemSettings:
    def test_staff_see_values_and_where_they_came_from(self, stella, monkeypatch):
        monkeypatch.setenv("DEFAULT_CREDITS", "1000")

        page = stella.get(reverse("staff-settings")).content.decode()

        for text in ("NTD_TOPOLOGY", "mesh", "DEFAULT_CREDITS", "1000", "environment", "default"):
            assert text in page

    def test_secrets_are_masked(self, stella, settings):
        settings.METRICS_TOKEN = "t0ken-of-metrics"
        settings.REDIS_URL = settings.REDIS_URL
        settings.DATABASE_URL = "postgresql://ntd:hunter2@db/ntd"

        page = stella.get(reverse("staff-settings")).content.decode()

        assert django_settings.SECRET_KEY not in page
        assert "t0ken-of-metrics" not in page
        assert "hunter2" not in page

    def test_the_page_says_whether_the_key_of_the_cloud_works_and_never_what_it_is(self, stella, settings, e2b):
        settings.E2B_API_KEY = "e2b_" + "0f" * 20
        working = stella.get(reverse("staff-settings")).content.decode()
        e2b.reasons = ["E2B does not let us in: correct E2B_API_KEY."]
        engine.forget("e2b")
        refused = stella.get(reverse("staff-settings")).content.decode()

        assert "It works." in working
        assert "E2B does not let us in" in refused
        assert settings.E2B_API_KEY not in working + refused
        assert "code-interpreter-v1" in working

    def test_without_a_key_nothing_is_said_of_it(self, stella):
        page = stella.get(reverse("staff-settings")).content.decode()

        assert "It works." not in page
        assert "No effect yet" not in page.split("PAYMENT_GATEWAY_URL")[0]

    def test_others_get_403(self, client):
        client.force_login(factories.make_user())

        assert client.get(reverse("staff-settings")).status_code == 403


class TestClock:
    @pytest.fixture
    def staff(self):
        client = APIClient()
        account = factories.make_account()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {factories.make_key(account, is_staff=True)[1]}")
        return client

    @pytest.fixture
    def running(self, settings, monkeypatch):
        settings.NTD_TEST_CLOCK = settings.DEBUG = True
        real = timezone.now
        monkeypatch.setattr(timezone, "now", real)
        monkeypatch.setattr(clock, "_shift", None)
        monkeypatch.setattr(clock, "KEY", f"test-clock-{id(self)}")
        clock.install()

    def test_without_the_setting_the_path_is_404(self, staff):
        assert staff.post("/api/v1/test/clock", {"advance_seconds": 1}, format="json").status_code == 404
        assert APIClient().get("/api/v1/test/clock").status_code == 404

    def test_it_moves_and_keeps_ticking(self, staff, running):
        before = timezone.now()

        answer = staff.post("/api/v1/test/clock", {"advance_seconds": 3600}, format="json")

        moved = timezone.now()
        assert answer.status_code == 200
        assert timedelta(hours=1) <= moved - before < timedelta(hours=1, seconds=30)
        assert timezone.now() > moved

    def test_it_goes_to_a_moment_and_never_back(self, staff, running):
        now = timezone.now()
        later, earlier = (now + timedelta(days=3)).isoformat(), (now - timedelta(days=1)).isoformat()

        assert staff.post("/api/v1/test/clock", {"now": later}, format="json").status_code == 200
        back = staff.post("/api/v1/test/clock", {"now": earlier}, format="json")

        assert (back.status_code, back.json()["code"]) == (409, "conflict")

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"now": "x"},
            {"advance_seconds": -1},
            {"advance_seconds": 1, "now": "2030-01-01T00:00:00Z"},
            {"now": "9999-01-01T00:00:00Z"},
        ],
    )
    def test_nonsense_is_400(self, staff, running, body):
        assert staff.post("/api/v1/test/clock", body, format="json").status_code == 400

    def test_it_is_staff_s(self, running):
        account = factories.make_account()
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {factories.make_key(account)[1]}")

        answer = client.post("/api/v1/test/clock", {"advance_seconds": 1}, format="json")

        assert answer.json()["code"] == "staff_required"

    def test_a_round_runs_every_task_of_the_schedule(self):
        app.loader.import_default_modules()

        clock_door.sweep_once()

        assert {entry["task"] for entry in schedules.DECLARED.values()} <= set(app.tasks)

    def test_a_sweep_that_fails_stops_no_other(self, monkeypatch):
        app.loader.import_default_modules()
        ran = []
        task = app.tasks["ntd_site.tasks.mark_alive"]
        monkeypatch.setattr(heartbeats, "beat", ran.append)
        declared = {"broken": {"task": "ntd_site.tasks.no_such_task"}, "sound": {"task": task.name}}
        monkeypatch.setattr(schedules, "DECLARED", declared)

        clock_door.sweep_once()

        assert ran == ["workers"]


class TestSchema:
    def test_it_is_yaml_and_on_request_json(self, client):
        written = client.get("/api/v1/schema/")
        asked = client.get("/api/v1/schema/", HTTP_ACCEPT="application/json")

        assert written["Content-Type"] == "application/yaml"
        assert yaml.safe_load(written.content)["openapi"].startswith("3.1")
        assert json.loads(asked.content)["openapi"].startswith("3.1")

    def test_it_is_not_sent_twice(self, client):
        first = client.get("/api/v1/schema/")

        assert client.get("/api/v1/schema/", HTTP_IF_NONE_MATCH=first["ETag"]).status_code == 304

    def test_every_operation_says_how_it_fails_and_who_may(self, client):
        document = client.get("/api/v1/schema/", HTTP_ACCEPT="application/json").json()
        operations = [
            (path, method, operation)
            for path, found in document["paths"].items()
            for method, operation in found.items()
        ]

        assert len(operations) > 5
        for path, method, operation in operations:
            assert "default" in operation["responses"], (path, method)
            assert "429" in operation["responses"], (path, method)
            if operation.get("security") != [{}]:
                assert "401" in operation["responses"], (path, method)
        posts = [operation for path, method, operation in operations if method == "post" and operation.get("security")]
        named = [{parameter["name"] for parameter in operation.get("parameters", [])} for operation in posts]
        assert any("Idempotency-Key" in names for names in named)


class TestDocs:
    def test_strangers_and_members_read_the_page(self, client):
        stranger = client.get(reverse("api-docs")).content.decode()
        client.force_login(factories.make_account().memberships.get().user)
        member = client.get(reverse("api-docs")).content.decode()

        for page in (stranger, member):
            assert "/api/v1/api-keys" in page
            assert "curl -X POST" in page
            assert 'id="problem-insufficient_credits"' in page
            assert "http://cdn" not in page
