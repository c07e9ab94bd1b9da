"""Pages of long-lived sandboxes: every state has its look, viewers change nothing, lists stay cheap."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from billing import ledger
from sandboxes import claims, executor, keeping, lifetimes
from sandboxes.models import Execution, Sandbox, Template
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]


@pytest.fixture
def alice():
    return factories.make_user()


@pytest.fixture
def account(alice):
    return factories.make_account(alice)


@pytest.fixture
def sandbox(account):
    return factories.make_sandbox(account, metadata={"name": "bench"})


@pytest.fixture
def page(client, account, alice):
    """Alice's browser: a page by name, under her account."""
    client.force_login(alice)

    def get(name, *args, **query):
        return client.get(reverse(f"sandboxes:{name}", args=[account, *args]), query)

    return get


def post(client, account, page_name, /, *args, **fields):
    return client.post(reverse(f"sandboxes:{page_name}", args=[account, *args]), fields)


def filled(**changes):
    template = Template.objects.get(account=None, name="python")
    return {"name": "bench", "template": template.pk, "ttl_seconds": "1800", "env": "MODE=paper"} | changes


def run_next():
    execution = claims.claim_in_sandbox(now=timezone.now())
    executor.run(execution=execution, clock=timezone.now)
    return execution


def text_of(answer):
    return answer.content.decode()


def test_without_any_the_list_says_what_they_are_for(page):
    text = text_of(page("sandboxes"))

    assert "No sandbox of your own is open" in text
    assert "Running in pools for this account" in text


def test_the_list_shows_open_ones_and_ended_ones_apart(page, account, sandbox):
    ended = factories.make_sandbox(account, metadata={"name": "done"})
    keeping.close(sandbox=ended, by=None, now=timezone.now())

    now, past = text_of(page("sandboxes")), text_of(page("sandboxes", show="ended"))

    assert ("bench" in now, "done" in now) == (True, False)
    assert ("bench" in past, "done" in past) == (False, True)


def test_the_list_takes_the_same_few_queries_for_one_or_many(page, account, sandbox):
    page("sandboxes")
    with CaptureQueriesContext(connection) as one:
        page("sandboxes")
    for _ in range(4):
        factories.make_execution(account, sandbox=str(factories.make_sandbox(account).pk))
    with CaptureQueriesContext(connection) as many:
        answer = page("sandboxes")

    assert len(answer.context["page"].results) == 5
    # One more, since now there is an execution to name.
    assert len(many) <= len(one) + 1
    assert not any('"sandboxes_execution"."code"' in query["sql"] for query in many)


def test_the_table_and_a_row_refetch_themselves(client, page, account, sandbox):
    client.force_login(sandbox.account.memberships.first().user)
    url = reverse("sandboxes:sandboxes", args=[account])

    table = client.get(url, {"part": "kept"}, HTTP_HX_REQUEST="true")
    pools = client.get(url, HTTP_HX_REQUEST="true")

    assert text_of(table).strip().startswith('<div class="stack" id="kept"')
    assert text_of(pools).strip().startswith('<div class="stack" id="list"')
    assert text_of(page("sandbox-row", sandbox.pk)).strip().startswith(f'<tr id="sandbox-{sandbox.pk}"')


@pytest.mark.parametrize("part", ["head", "side", "executions"])
def test_the_parts_of_the_detail_refetch_themselves(page, sandbox, part):
    assert f'id="sandbox-{part}"' in text_of(page("sandbox", sandbox.pk, part=part))[:200]


def test_one_is_opened_by_its_form(client, page, account, runtime):
    page("sandbox-new")

    answer = post(client, account, "sandbox-new", **filled(memory_mb="128"))

    sandbox = Sandbox.objects.get()
    assert answer.url == reverse("sandboxes:sandbox", args=[account, sandbox.pk])
    assert (sandbox.name, sandbox.ttl_seconds, sandbox.env, sandbox.limits["disk_mb"]) == (
        "bench",
        1800,
        {"MODE": "paper"},
        112,
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"memory_mb": "64", "disk_mb": "64"}, "Give at most 48"),
        ({"env": "nonsense"}, "NAME=value"),
        ({"ttl_seconds": "7"}, "Select a valid choice"),
    ],
)
def test_a_bad_form_is_422_and_says_why(client, page, account, changes, said):
    page("sandbox-new")

    answer = post(client, account, "sandbox-new", **filled(**changes))

    assert answer.status_code == 422
    assert said in text_of(answer)
    assert not Sandbox.objects.exists()


def test_without_credits_the_form_says_so(client, page, account):
    page("sandbox-new")
    spare = ledger.balance(account_id=account.pk, now=timezone.now()).available_ucr
    ledger.charge(account_id=account.pk, amount_ucr=spare, key="all", source="test", now=timezone.now())

    answer = post(client, account, "sandbox-new", **filled())

    assert answer.status_code == 402
    assert "Insufficient credits" in text_of(answer)


def test_every_state_has_its_look(page, account, sandbox):
    creating = factories.make_sandbox(account, is_open=False)
    assert "It waits for a node that has room" in text_of(page("sandbox", creating.pk))
    assert "Run code in it" in text_of(page("sandbox", sandbox.pk))

    factories.make_execution(account, sandbox=str(sandbox.pk))
    claims.claim_in_sandbox(now=timezone.now())
    assert "Running" in text_of(page("sandbox", sandbox.pk, part="head"))

    lifetimes.lose(sandbox_id=sandbox.pk, reason="Its node is gone.", now=timezone.now())
    lost = text_of(page("sandbox", sandbox.pk))
    assert "The sandbox was lost. Its node is gone." in lost
    assert "Run code in it" not in lost

    lifetimes.end(sandbox_id=creating.pk, state="gone", now=timezone.now())
    assert "It was closed. Its files are gone" in text_of(page("sandbox", creating.pk))


def test_code_runs_in_it_and_is_listed(client, page, account, sandbox):
    page("sandbox", sandbox.pk)

    answer = post(client, account, "sandbox-run", sandbox.pk, code="print(1)\r\n", timeout_seconds="5", queue="on")

    execution = Execution.objects.get()
    assert answer.url == reverse("sandboxes:execution", args=[account, execution.pk])
    assert (execution.kept_sandbox_id, execution.code, execution.timeout_seconds) == (sandbox.pk, "print(1)\n", 5)
    run_next()
    assert execution.name in text_of(page("sandbox", sandbox.pk))
    assert "paid by its sandbox" in text_of(page("execution", execution.pk))
    assert "own sandbox" in text_of(page("executions"))


def test_a_busy_one_says_so_and_keeps_the_code(client, page, account, sandbox):
    page("sandbox", sandbox.pk)
    factories.make_execution(account, sandbox=str(sandbox.pk))

    answer = post(client, account, "sandbox-run", sandbox.pk, code="print(42)", timeout_seconds="5")

    assert answer.status_code == 409
    assert "This sandbox runs another execution" in text_of(answer)
    assert "print(42)" in text_of(answer)


def test_it_is_given_more_time_up_to_a_day(client, page, account, sandbox):
    page("sandbox", sandbox.pk)
    before = sandbox.expires_at

    post(client, account, "sandbox-extend", sandbox.pk, ttl_seconds="3600")
    sandbox.refresh_from_db()
    assert sandbox.expires_at > before + timedelta(minutes=50)
    answer = client.post(
        reverse("sandboxes:sandbox-extend", args=[account, sandbox.pk]), {"ttl_seconds": "86400"}, follow=True
    )

    assert "A sandbox lives 24 hours at most" in text_of(answer)


def test_it_is_ended_by_its_button_and_then_only_looked_at(client, page, account, sandbox, runtime):
    page("sandbox", sandbox.pk)

    post(client, account, "sandbox-close", sandbox.pk)

    assert runtime.kept == {}
    late = client.post(reverse("sandboxes:sandbox-extend", args=[account, sandbox.pk]), {"ttl_seconds": "300"}, follow=True)  # fmt: skip
    assert "This sandbox has ended" in text_of(late)
    assert post(client, account, "sandbox-run", sandbox.pk, code="1", timeout_seconds="5").status_code == 410


def test_a_viewer_sees_and_cannot_act(client, account, sandbox):
    client.force_login(factories.make_viewer(account))

    text = text_of(client.get(reverse("sandboxes:sandbox", args=[account, sandbox.pk])))

    assert "bench" in text
    for button in ("End it", "Run code in it", "Give it more time"):
        assert button not in text
    for name, *args in (("sandbox-new",), ("sandbox-run", sandbox.pk), ("sandbox-extend", sandbox.pk), ("sandbox-close", sandbox.pk)):  # fmt: skip
        assert post(client, account, name, *args).status_code == 403


def test_an_outsider_finds_nothing(client, account, sandbox):
    client.force_login(factories.make_user("Charlie"))

    for name in ("sandbox", "sandbox-row"):
        assert client.get(reverse(f"sandboxes:{name}", args=[account, sandbox.pk])).status_code == 404


def test_a_name_is_text_and_never_markup(page, account):
    sandbox = factories.make_sandbox(account, metadata={"name": "<img src=x onerror=1>", "k": "<b>"})

    for text in (text_of(page("sandboxes")), text_of(page("sandbox", sandbox.pk))):
        assert "<img src=x" not in text
        assert "&lt;img src=x" in text
