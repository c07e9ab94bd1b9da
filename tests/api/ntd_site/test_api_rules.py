"""The rules that hold for every endpoint, tried on the endpoints of keys and members."""

from __future__ import annotations

import json

import pytest
from django.test import Client
from django.urls import path
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from ntd_site import urls
from tests import factories

pytestmark = pytest.mark.django_db


class Breaks(APIView):
    def get(self, request):
        raise RuntimeError("a secret of the server")


class Nested(APIView):
    class Shape(serializers.Serializer):
        class Item(serializers.Serializer):
            name = serializers.CharField()

        items = Item(many=True)
        by_name = serializers.DictField(child=Item(), required=False)

    request_serializer = Shape

    def post(self, request):
        return Response(request.data)


urlpatterns = [path("api/v1/breaks", Breaks.as_view()), path("api/v1/nested", Nested.as_view()), *urls.urlpatterns]
handler404 = urls.handler404
handler500 = urls.handler500


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def api(account):
    return client_of(factories.make_key(account)[1])


def client_of(secret):
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def assert_problem(response, status, code):
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body = json.loads(response.content)
    assert {"type", "title", "status", "detail", "code"} <= set(body)
    assert (body["status"], body["code"]) == (status, code)
    return body


def test_an_unknown_api_path_is_a_404_problem(api):
    assert_problem(api.get("/api/v1/nothing-here"), 404, "not_found")


@pytest.mark.parametrize("debug", [True, False])
def test_an_unknown_api_path_is_a_problem_with_and_without_debug(debug, settings):
    settings.DEBUG = debug

    assert_problem(Client().post("/api/v1/nothing"), 404, "not_found")


def test_no_credentials_is_401_and_says_how(api):
    response = APIClient().get("/api/v1/members")

    assert_problem(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Bearer ntd_wrong", "Bearer", "Basic abc", "Bearer nope", "Bearer ntd_é"])
def test_wrong_credentials_are_401(header):
    assert_problem(APIClient().get("/api/v1/members", HTTP_AUTHORIZATION=header), 401, "not_authenticated")


def test_a_missing_scope_is_named(account):
    client = client_of(factories.make_key(account, scopes=("billing:read",))[1])

    assert "account:read" in assert_problem(client.get("/api/v1/members"), 403, "missing_scope")["detail"]


def test_a_slash_at_the_end_answers_the_same(api):
    assert api.get("/api/v1/members/").json() == api.get("/api/v1/members").json()


def test_another_method_is_405_with_allow(api):
    response = api.put("/api/v1/members", {}, format="json")

    assert_problem(response, 405, "method_not_allowed")
    assert "GET" in response["Allow"]


def test_a_malformed_id_is_404(api):
    assert_problem(api.get("/api/v1/members/not-an-id"), 404, "not_found")
    assert_problem(api.get("/api/v1/members/%00"), 404, "not_found")


def test_a_thing_of_another_account_is_404(api):
    other = factories.make_account(factories.make_user("Charlie"))
    key, _ = factories.make_key(other)

    assert_problem(api.get(f"/api/v1/api-keys/{key.pk}"), 404, "not_found")
    assert_problem(api.get("/api/v1/members", {"account": str(other.pk)}), 404, "not_found")


def test_csrf_is_asked_of_sessions(account):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(account.memberships.get().user)

    assert_problem(client.post("/api/v1/members", {}, format="json"), 403, "csrf_failed")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"1",
        b"null",
        b"\xff",
        b'{"email": NaN}',
        b'{"email": Infinity}',
        b'{"email": 1e999}',
        b'{"email": "\\ud800"}',
        b'{"email": "a@b.example", "email": "c@d.example"}',
        b'{"email": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"email": ' + b"9" * 5000 + b"}",
        b'{"email": "a\\u0000@b.example", "role": "viewer"}',
        b"",
    ],
)
def test_a_body_nobody_can_read_is_400(api, body):
    response = api.post("/api/v1/members", body, content_type="application/json")

    assert_problem(response, 400, "validation_error")


def test_another_content_type_is_415(api):
    response = api.post("/api/v1/members", "a=b", content_type="text/plain")

    assert_problem(response, 415, "unsupported_media_type")


def test_unknown_fields_are_named(api):
    response = api.post("/api/v1/members", {"email": "b@example.com", "role": "viewer", "rol": 1}, format="json")

    assert assert_problem(response, 400, "validation_error")["errors"] == {"rol": ["Unknown field."]}


@pytest.mark.urls(__name__)
def test_unknown_fields_are_found_at_any_depth(api):
    body = {"items": [{"name": "a"}, {"nam": "b"}], "by_name": {"x": {"y": 1}}}

    problem = assert_problem(api.post("/api/v1/nested", body, format="json"), 400, "validation_error")

    assert problem["errors"] == {"items.1.nam": ["Unknown field."], "by_name.x.y": ["Unknown field."]}


def test_validation_errors_are_flat(api):
    response = api.post("/api/v1/api-keys", {"name": "", "scopes": ["nope"]}, format="json")

    errors = assert_problem(response, 400, "validation_error")["errors"]
    assert set(errors) == {"name", "scopes.0"}
    assert all(isinstance(messages, list) for messages in errors.values())


@pytest.mark.parametrize(
    "query",
    [
        {"page_size": "0"},
        {"page_size": "201"},
        {"page_size": "x"},
        {"page_size": "²"},
        {"cursor": "nonsense"},
        {"cursor": "cD1ub3BlLWRhdGU="},  # p=nope-date
        {"created_after": "yesterday"},
        {"role": "boss"},
        {"email": "a\x00b"},
    ],
)
def test_a_wrong_query_is_400(api, query):
    assert_problem(api.get("/api/v1/members", query), 400, "validation_error")


def test_a_body_beyond_the_limit_is_413_with_the_limit(api, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100

    response = api.post("/api/v1/members", {"email": "x" * 200}, format="json")

    assert assert_problem(response, 413, "payload_too_large")["limit"] == 100


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("debug", [True, False])
def test_what_breaks_is_a_500_problem_without_traceback(api, debug, settings):
    settings.DEBUG = debug

    response = api.get("/api/v1/breaks")

    assert_problem(response, 500, "internal_error")
    assert b"secret of the server" not in response.content


def test_the_request_id_is_taken_or_made(api):
    given = api.get("/api/v1/members", HTTP_X_REQUEST_ID="abc-1")
    made = api.get("/api/v1/members", HTTP_X_REQUEST_ID="not ok")

    assert given["X-Request-ID"] == "abc-1"
    assert len(made["X-Request-ID"]) == 36


def test_an_accept_nobody_serves_still_gets_json(api):
    assert api.get("/api/v1/members", HTTP_ACCEPT="text/html").json()["results"]


def test_lists_page_by_cursor_newest_first(api, account):
    for number in range(3):
        factories.make_key(account, name=f"key {number}")

    first = api.get("/api/v1/api-keys", {"page_size": 2}).json()
    second = api.get(first["next"]).json()

    assert [row["name"] for row in first["results"] + second["results"]] == ["key 2", "key 1", "key 0", "test"]
    assert first["previous"] is None
    assert second["next"] is None


def test_staff_see_another_account_by_asking_for_it(account):
    key, secret = factories.make_key(factories.make_account(factories.make_staff(), "Staff"), is_staff=True)

    found = client_of(secret).get("/api/v1/members", {"account": account.slug}).json()

    assert [row["email"] for row in found["results"]] == [account.memberships.get().user.email]
