import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from sandboxes import engine
from tests import factories

pytestmark = pytest.mark.usefixtures("runtime")


def run(*arguments):
    out = StringIO()
    call_command("sandbox_check", *arguments, stdout=out)
    return out.getvalue()


def test_it_says_the_engine_its_promises_and_its_probes():
    text = run()

    assert "engine    scripted" in text
    assert "promise   nothing leaves" in text
    assert "probe     scripted: passed" in text
    assert "pool      python: 2 ready" in text


def test_the_same_is_there_for_programs():
    assert json.loads(run("--json"))["engine"] == "scripted"


def test_it_says_what_the_cloud_is_set_to(cloud):
    engine.register("e2b", cloud.runtime)
    text = run()
    found = json.loads(run("--json"))["runtimes"]
    engine.withdraw("e2b")

    assert "runtime   e2b: E2B cloud" in text
    assert "set to    template for python: code-interpreter-v1" in text
    assert "probe     e2b: passed" in text
    assert set(found) == {"local", "e2b"}
    assert cloud.fake.key not in text


def test_with_the_cloud_alone_it_is_content(runtime, e2b):
    runtime.reasons = ["bubblewrap: no user namespaces"]

    assert "because bubblewrap" in run()


def test_without_an_engine_it_says_why_and_fails(runtime):
    runtime.reasons = ["bubblewrap: no user namespaces"]
    out = StringIO()

    with pytest.raises(SystemExit):
        call_command("sandbox_check", stdout=out)

    assert "because bubblewrap: no user namespaces" in out.getvalue()


def told(name, **said):
    now = timezone.now().isoformat()
    said = {"engine": "gvisor", "since": now, "why": "It passed.", "seen": now, "probes": []} | said
    factories.make_node(name, metadata={"told": {"sandboxes": said}})


@pytest.mark.django_db
def test_of_each_node_it_says_what_its_worker_told():
    told("node-a")
    told("node-b", engine="bubblewrap", probes=[{"engine": "gvisor", "ok": False, "reasons": ["it is not there"]}])

    text = run("--nodes")

    assert "node      node-a\nengine    gvisor\nsince" in text
    assert "node      node-b\nengine    bubblewrap" in text
    assert "probe     gvisor: failed\n            it is not there" in text
    assert set(json.loads(run("--nodes", "--json"))) == {"node-a", "node-b"}


@pytest.mark.django_db
def test_a_node_that_refuses_makes_it_fail():
    told("node-a")
    told("node-b", engine=None, reasons=["nothing passed"])

    with pytest.raises(SystemExit) as ended:
        run("--nodes")

    assert ended.value.code == 1


@pytest.mark.django_db
def test_the_admin_shows_and_changes_nothing(admin_client):
    execution = factories.make_execution()
    page = reverse("admin:sandboxes_execution_change", args=[execution.pk])

    assert admin_client.get(reverse("admin:sandboxes_execution_changelist")).status_code == 200
    assert admin_client.get(page).status_code == 200
    assert admin_client.post(page, {"state": "failed"}).status_code == 403
    for model in ("pool", "template"):
        assert admin_client.get(reverse(f"admin:sandboxes_{model}_changelist")).status_code == 200
