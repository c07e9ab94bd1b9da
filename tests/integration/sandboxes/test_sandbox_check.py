import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.urls import reverse

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


@pytest.mark.django_db
def test_the_admin_shows_and_changes_nothing(admin_client):
    execution = factories.make_execution()
    page = reverse("admin:sandboxes_execution_change", args=[execution.pk])

    assert admin_client.get(reverse("admin:sandboxes_execution_changelist")).status_code == 200
    assert admin_client.get(page).status_code == 200
    assert admin_client.post(page, {"state": "failed"}).status_code == 403
    for model in ("pool", "template"):
        assert admin_client.get(reverse(f"admin:sandboxes_{model}_changelist")).status_code == 200
