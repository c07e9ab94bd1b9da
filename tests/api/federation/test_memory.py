"""The agents' shared memory: by key with versions, by prefix, by nearness, within its quotas."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from federation import memory, vectors
from federation.models import MemoryEntry, MemoryNamespace, MemoryVersion
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(federation):
    return f"federations/{federation.pk}/memory/notes"


@pytest.fixture
def put(api, path):
    def put(key, value=None, *, to=api, **body):
        headers = {"If-Match": str(body.pop("if_match"))} if "if_match" in body else {}
        body = {"value": value, **body}
        return to.client.put(f"/api/v1/{path}/{key}", body, format="json", headers=headers)

    return put


def test_what_is_written_is_read_again(api, path, put):
    made = put("first", {"text": "hello"}, metadata={"topic": "greeting"}, embedding=[1, 0.5])

    assert (made.status_code, made.json()["version"], made["ETag"]) == (201, 1, '"1"')
    read = api.get(f"{path}/first").json()
    assert (read["value"], read["metadata"], read["embedding"]) == (
        {"text": "hello"},
        {"topic": "greeting"},
        [1.0, 0.5],
    )
    assert read["expires_at"] is None
    space = api.get(path.removesuffix("/notes")).json()["results"][0]
    assert (space["name"], space["entries"], space["dimension"], space["metric"]) == ("notes", 1, 2, "cosine")


def test_versions_rise_and_the_last_ten_are_kept(api, path, put):
    for n in range(1, 14):
        answer = put("first", n)
        assert (answer.status_code, answer.json()["version"]) == (201 if n == 1 else 200, n)

    kept = api.get(f"{path}/first/versions").json()["results"]

    assert [each["version"] for each in kept] == list(range(12, 2, -1))
    assert api.get(f"{path}/first", version=12).json()["value"] == 12
    assert api.get(f"{path}/first", version=13).json()["value"] == 13
    assert api.get(f"{path}/first", version=2).status_code == 404
    assert api.get(f"{path}/first", version="x").status_code == 400


@pytest.mark.parametrize("how", ["if_match", "version"])
def test_of_two_that_write_over_the_same_version_one_loses(api, path, put, how):
    put("first", "a")

    won = put("first", "b", **{how: 1})
    lost = put("first", "c", **{how: 1})

    assert (won.status_code, lost.status_code) == (200, 409)
    assert (lost.json()["code"], lost.json()["state"]) == ("conflict", "version 2")
    assert api.get(f"{path}/first").json()["value"] == "b"


def test_version_0_writes_only_what_is_not_there(put):
    assert put("first", "a", version=0).status_code == 201
    assert put("first", "b", version=0).status_code == 409
    assert put("second", "b", version=3).json()["state"] == "absent"
    assert put("second", "b", version=3, if_match="4").status_code == 400


def test_a_deleted_key_is_gone_and_its_versions_go_on(api, path, put):
    put("first", "a")
    stale = api.client.delete(f"/api/v1/{path}/first", headers={"If-Match": "7"})

    assert stale.status_code == 409
    assert api.delete(f"{path}/first").status_code == 204
    assert api.delete(f"{path}/first").status_code == 404
    assert api.get(f"{path}/first").status_code == 404
    assert api.get(path).json()["results"] == []
    again = put("first", "b")
    assert (again.status_code, again.json()["version"]) == (201, 3)
    assert put("first", "late", version=1).status_code == 409
    assert api.get(f"{path}/first/versions").json()["results"] == []


def test_an_entry_lives_as_long_as_asked(api, federation, path, put):
    put("short", "a", ttl_seconds=60)
    put("long", "b")
    MemoryEntry.objects.filter(key="short").update(expires_at=timezone.now() - timedelta(seconds=1))

    assert api.get(f"{path}/short").status_code == 404
    assert [each["key"] for each in api.get(path).json()["results"]] == ["long"]
    assert put("short", "c", version=0).json()["version"] == 2

    MemoryEntry.objects.filter(key="short").update(expires_at=timezone.now() - timedelta(seconds=1))
    memory.sweep(now=timezone.now())
    space = MemoryNamespace.objects.get()
    assert (space.entries, space.bytes) == (1, MemoryEntry.objects.get(key="long").bytes)
    assert MemoryEntry.objects.get(key="short").value is None
    memory.sweep(now=timezone.now() + timedelta(hours=25))
    assert list(MemoryEntry.objects.values_list("key", flat=True)) == ["long"]


def test_keys_are_listed_by_prefix_page_by_page(api, path, put):
    for n in range(5):
        put(f"a:{n}", n)
    put("b:0", 9)
    put("a_0", 9)

    first = api.get(path, prefix="a:", page_size=3).json()
    second = api.client.get(first["next"]).json()

    assert [each["key"] for each in first["results"] + second["results"]] == ["a:4", "a:3", "a:2", "a:1", "a:0"]
    assert "embedding" not in first["results"][0]
    assert api.get(path, prefix="%").json()["results"] == []


def test_agents_share_the_memory_of_their_federation_only(api, federation, path, put, as_agent):
    _, token = factories.make_agent_with_token(federation, "anna")
    _, foreign = factories.make_agent_with_token(factories.make_federation(federation.account), "bert")
    anna, bert = as_agent(token), as_agent(foreign)

    assert put("first", "a", to=anna).json()["written_by"] == "agent anna"
    assert anna.get(f"{path}/first").json()["value"] == "a"
    assert anna.get(path).status_code == 200
    assert bert.get(f"{path}/first").status_code == 404
    assert put("first", "b", to=bert).status_code == 404


def test_what_is_not_there_or_somebody_else_s_is_404(api, charlie, path, put):
    assert api.get(path).status_code == 404
    put("first", "a")
    assert api.get(f"{path}/second").status_code == 404
    assert api.get(f"{path}/ümlaut").status_code == 404
    assert charlie.get(f"{path}/first").status_code == 404
    assert put("x" * 201, "a").status_code == 404


def test_sizes_and_quotas_are_held(api, federation, path, put, monkeypatch):
    large = put("large", "x" * memory.MOST_VALUE_BYTES)
    assert (large.status_code, large.json()["limit"]) == (413, memory.MOST_VALUE_BYTES)
    assert put("about", 1, metadata={"x": "y" * 17_000}).status_code == 413
    monkeypatch.setattr(memory, "MOST_ENTRIES", 2)
    monkeypatch.setattr(memory, "MOST_BYTES", 1000)
    monkeypatch.setattr(memory, "MOST_NAMESPACES", 1)
    put("a", 1)
    put("b", 2)

    full = put("c", 3)
    heavy = put("a", "x" * 1000)
    other = api.client.put(f"/api/v1/federations/{federation.pk}/memory/other/a", {"value": 1}, format="json")

    assert [(each.status_code, each.json()["code"], each.json()["limit"]) for each in (full, heavy, other)] == [
        (429, "resource_limit_exceeded", limit) for limit in (2, 1000, 1)
    ]
    assert full["Retry-After"]
    assert put("a", "still fits").status_code == 200
    api.delete(f"{path}/b")
    assert put("c", 3).status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "value"),
        ({"value": 1, "metadata": []}, "metadata"),
        ({"value": 1, "ttl_seconds": 0}, "ttl_seconds"),
        ({"value": 1, "embedding": []}, "embedding"),
        ({"value": 1, "embedding": ["a"]}, "embedding"),
        ({"value": 1, "embedding": [1e31]}, "embedding"),
        ({"value": 1, "embedding": [0.1] * 2001}, "embedding"),
        ({"value": "\x00"}, "value"),
        ({"value": 1, "surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_field_is_named(api, path, body, field):
    answer = api.client.put(f"/api/v1/{path}/first", body, format="json")

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


def test_a_namespace_keeps_its_dimension_and_metric(api, path, put):
    settled = api.client.put(f"/api/v1/{path}", {"metric": "l2", "dimension": 2}, format="json")
    assert (settled.status_code, settled.json()["metric"]) == (200, "l2")

    for refused in (
        put("first", 1, embedding=[1, 2, 3]),
        api.client.put(f"/api/v1/{path}", {"dimension": 3}, format="json"),
        api.client.put(f"/api/v1/{path}", {"metric": "cosine"}, format="json"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (400, "validation_error")
    assert not MemoryEntry.objects.exists()
    put("first", 1, embedding=[1, 2])
    with pytest.raises(IntegrityError), transaction.atomic():
        MemoryEntry.objects.update(embedding=[1.0, 2.0, 3.0])


def test_a_forgotten_namespace_leaves_nothing(api, path, put):
    put("first", 1)
    put("first", 2)

    assert api.delete(path).status_code == 204

    assert [model.objects.count() for model in (MemoryNamespace, MemoryEntry, MemoryVersion)] == [0, 0, 0]
    assert api.delete(path).status_code == 404


# Nearness


def search(api, path, **body):
    return api.post(f"{path}/search", body)


needs_pgvector = pytest.mark.usefixtures("pgvector")


@pytest.fixture
def pgvector():
    if vectors.version() is None:
        pytest.skip("this PostgreSQL has no pgvector")


@needs_pgvector
@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("cosine", [("east", 0.0), ("far east", 0.0), ("north", 1.0)]),
        ("l2", [("east", 0.0), ("north", 2**0.5), ("far east", 9.0)]),
        ("inner_product", [("far east", -10.0), ("east", -1.0), ("north", 0.0)]),
    ],
)
def test_the_nearest_come_first_by_the_namespaces_metric(api, path, put, metric, expected):
    api.client.put(f"/api/v1/{path}", {"metric": metric}, format="json")
    put("a", "east", embedding=[1, 0])
    put("b", "north", embedding=[0, 1])
    put("c", "far east", embedding=[10, 0])
    put("d", "nowhere")

    found = search(api, path, embedding=[1, 0]).json()["results"]

    assert sorted((each["entry"]["value"], round(each["distance"], 6)) for each in found) == sorted(
        (value, round(distance, 6)) for value, distance in expected
    )
    assert [each["distance"] for each in found] == sorted(each["distance"] for each in found)
    assert len(search(api, path, embedding=[1, 0], k=1).json()["results"]) == 1


@needs_pgvector
def test_a_search_is_narrowed_by_metadata_and_can_start_from_an_entry(api, path, put):
    for n in range(6):
        put(f"k{n}", n, embedding=[1, n], metadata={"even": n % 2 == 0, "tags": ["x", n]})

    even = search(api, path, embedding=[1, 0], metadata={"even": True}).json()["results"]
    near = search(api, path, key="k3", k=2).json()["results"]
    tagged = search(api, path, key="k3", metadata={"tags": [5]}).json()["results"]

    assert [each["entry"]["value"] for each in even] == [0, 2, 4]
    assert {each["entry"]["value"] for each in near} == {2, 4} or {each["entry"]["value"] for each in near} == {4, 5}
    assert [each["entry"]["value"] for each in tagged] == [5]


@needs_pgvector
def test_what_is_deleted_or_expired_is_near_nothing(api, path, put):
    put("a", 1, embedding=[1, 0])
    put("b", 2, embedding=[1, 0], ttl_seconds=60)
    put("c", 3, embedding=[1, 0])
    api.delete(f"{path}/a")
    MemoryEntry.objects.filter(key="b").update(expires_at=timezone.now())

    assert [each["entry"]["key"] for each in search(api, path, embedding=[1, 0]).json()["results"]] == ["c"]


@needs_pgvector
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "embedding"),
        ({"embedding": [1, 0], "key": "a"}, "embedding"),
        ({"embedding": [1, 0, 0]}, "embedding"),
        ({"key": "b"}, "key"),
        ({"embedding": [1, 0], "k": 201}, "k"),
    ],
)
def test_a_search_that_cannot_be_is_400(api, path, put, body, field):
    put("a", 1, embedding=[1, 0])
    put("b", 1)

    answer = search(api, path, **body)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


def test_a_database_without_pgvector_says_what_to_install(api, path, put, monkeypatch):
    monkeypatch.setattr(vectors, "INSTALLED", "select null, null")

    assert put("a", 1, embedding=[1, 0]).status_code == 201
    answer = search(api, path, embedding=[1, 0])

    assert (answer.status_code, answer.json()["code"]) == (501, "not_implemented")
    assert f"postgresql-{connection.pg_version // 10000}-pgvector" in answer.json()["detail"]


def test_a_key_that_only_reads_searches(account, federation, path, put, as_agent):
    put("a", 1, embedding=[1, 0])
    reader = as_agent(factories.make_key(account, ("federation:read",))[1])

    assert search(reader, path, embedding=[1, 0]).status_code in (200, 501)
    assert put("a", 2, to=reader).status_code == 403
