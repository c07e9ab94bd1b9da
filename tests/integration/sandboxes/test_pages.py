from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from ntd_site.formats import bytesize
from sandboxes import claims, engine, executor
from sandboxes.models import Build, Execution, Pool, Template
from sandboxes.runtimes import Artifact
from scaling.models import Node
from tests import factories, scripted

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]


@pytest.fixture
def alice():
    return factories.make_user()


@pytest.fixture
def account(alice):
    return factories.make_account(alice)


@pytest.fixture
def page(client, account, alice):
    """Alice's browser: a page by name, under her account."""
    client.force_login(alice)

    def get(name, *args, **query):
        return client.get(reverse(f"sandboxes:{name}", args=[account, *args]), query)

    return get


def post(client, account, page_name, /, *args, **fields):
    return client.post(reverse(f"sandboxes:{page_name}", args=[account, *args]), fields)


def ended(runtime, account, **outcome):
    execution = factories.make_execution(account)
    runtime.script = lambda request: scripted.outcome(**outcome)
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)
    return Execution.objects.get(pk=execution.pk)


FILLED = {"code": "print(1)", "timeout_seconds": "30", "input": "", "args": "", "env": ""}


def filled(**changes):
    return FILLED | {"pool": Pool.objects.get(account=None, name="python").pk} | changes


def test_the_empty_list_says_what_to_do(page):
    answer = page("executions")

    assert answer.status_code == 200
    assert b"No executions yet" in answer.content
    assert b"Run code" in answer.content


def test_the_list_takes_the_same_few_queries_for_one_or_many(page, account):
    factories.make_execution(account)
    page("executions")
    with CaptureQueriesContext(connection) as one:
        page("executions")
    for _ in range(5):
        factories.make_execution(account)
    with CaptureQueriesContext(connection) as many:
        answer = page("executions")

    assert len(answer.context["page"].results) == 6
    assert len(many) == len(one)
    assert len(many) <= 12


def test_the_list_never_reads_the_code(page, account):
    factories.make_execution(account)
    with CaptureQueriesContext(connection) as queries:
        page("executions")

    assert not any('"sandboxes_execution"."code"' in query["sql"] for query in queries)


def test_the_list_is_narrowed_by_state_language_and_text(page, account):
    python = factories.make_execution(account, metadata={"name": "momentum"})
    node = factories.make_execution(account, language="node")

    def shown(**query):
        return [execution.pk for execution in page("executions", **query).context["page"].results]

    assert shown(language="node") == [node.pk]
    assert shown(state="failed") == []
    assert shown(q="moment") == [python.pk]
    assert shown(q=str(node.pk)) == [node.pk]
    assert shown(q=node.name) == [node.pk]
    assert shown(q=str(node.pk)[-6:].upper()) == [node.pk]
    assert shown(pool=str(python.pool_id)) == [python.pk]
    assert shown(pool="nonsense") == [node.pk, python.pk]
    assert shown(state="nonsense") == [node.pk, python.pk]


def test_the_list_is_narrowed_by_time(page, account):
    now = timezone.now()
    old = factories.make_execution(account, now=now - timedelta(days=3))
    new = factories.make_execution(account, now=now)

    def shown(since):
        return [execution.pk for execution in page("executions", since=since).context["page"].results]

    assert shown("1h") == shown("24h") == [new.pk]
    assert shown("7d") == shown("") == shown("ever") == [new.pk, old.pk]


def test_a_time_with_nothing_says_so_and_how_to_see_all(page, account):
    factories.make_execution(account, now=timezone.now() - timedelta(days=3))

    assert b"Nothing matches" in page("executions", since="1h").content


def test_pages_follow_each_other_both_ways(page, account, monkeypatch):
    monkeypatch.setattr("sandboxes.pages.SIZE", 2)
    monkeypatch.setattr("sandboxes.pages.newest.__kwdefaults__", {"size": 2})
    made = [factories.make_execution(account).pk for _ in range(5)][::-1]

    first = page("executions").context["page"]
    second = page("executions", before=str(first.results[-1].pk)).context["page"]
    last = page("executions", before=str(second.results[-1].pk)).context["page"]
    back = page("executions", after=str(last.results[0].pk)).context["page"]

    assert [row.pk for row in first.results + second.results + last.results] == made
    assert (first.previous_url, last.next_url) == (None, None)
    assert [row.pk for row in back.results] == [row.pk for row in second.results]


def test_a_row_refetches_itself(page, account):
    execution = factories.make_execution(account)

    answer = page("execution-row", execution.pk)

    assert answer.content.decode().strip().startswith(f'<tr id="execution-{execution.pk}"')


def test_the_detail_shows_code_log_timeline_usage_and_artifacts(page, account, runtime):
    execution = ended(runtime, account, stdout=b"hello", artifacts=(Artifact("result.json", b"{}"),))

    with CaptureQueriesContext(connection) as queries:
        answer = page("execution", execution.pk)

    text = answer.content.decode()
    for shown in (
        "print",
        f"/api/v1/executions/{execution.pk}/events",
        "a warm sandbox after",
        "result.json",
        "on 1 core",
    ):
        assert shown in text, shown
    assert "Run again" in text
    assert len(queries) <= 14


@pytest.mark.parametrize("part", ["head", "left", "side", "usage"])
def test_the_parts_of_the_detail_refetch_themselves(page, account, part):
    execution = factories.make_execution(account)

    answer = page("execution", execution.pk, part=part)

    assert f'id="execution-{part}"' in answer.content.decode()
    assert "<html" not in answer.content.decode()


def test_a_breach_is_told_in_words(page, account, runtime):
    execution = ended(runtime, account, breach="memory", exit_code=1)

    assert b"It needed more than its 512 MB of memory." in page("execution", execution.pk).content


def test_what_code_prints_or_is_never_becomes_markup(page, account, runtime):
    execution = factories.make_execution(
        account, code="'</pre><script>alert(1)</script>'", metadata={"name": "<img src=x>"}
    )
    runtime.script = lambda request: scripted.outcome(
        stdout=b"<script>alert(2)</script>", exit_code=1, stderr=b"<b>x</b>"
    )
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)

    text = page("execution", execution.pk).content.decode()

    assert "<script>alert" not in text
    assert "<img src=x>" not in text
    assert "<b>x</b>" not in text


def test_code_is_run_from_the_form(page, client, account):
    answer = page("execution-new")
    assert b"statistics.mean" in answer.content

    answer = post(client, account, "execution-new", **filled(name="mine", args="a\nb", env="A=1=2", memory_mb="64"))

    execution = Execution.objects.get()
    assert answer.url == reverse("sandboxes:execution", args=[account, execution.pk])
    assert (execution.args, execution.env, execution.metadata) == (["a", "b"], {"A": "1=2"}, {"name": "mine"})
    assert (execution.limits["memory_mb"], execution.timeout_seconds) == (64, 30)
    assert execution.created_by.name == "Alice"


def test_the_form_offers_the_network_only_where_the_operator_allows_it(page, client, account, settings):
    before = page("execution-new").content
    refused = post(client, account, "execution-new", **filled(network="on"))
    settings.SANDBOX_NETWORK = "outward"
    offered = page("execution-new").content
    post(client, account, "execution-new", **filled(network="on"))

    assert b"reach the network" not in before
    assert refused.status_code == 302
    assert b"reach the network" in offered
    assert sorted(Execution.objects.values_list("network", flat=True)) == [False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": ""}, "This field is required."),
        ({"code": "   "}, "Give some code to run."),
        ({"timeout_seconds": "0"}, "greater than or equal to 1"),
        ({"memory_mb": "1"}, "greater than or equal to 16"),
        ({"env": "nonsense"}, "Write each line as NAME=value."),
        ({"env": "1A=x"}, "is no name of a variable"),
        ({"pool": "0198c1f0-0000-7000-8000-000000000000"}, "Select a valid choice."),
    ],
)
def test_a_fault_in_the_form_is_shown_where_it_is(page, client, account, changes, message):
    page("execution-new")

    answer = post(client, account, "execution-new", **filled(**changes))

    assert answer.status_code == 422
    assert message in answer.content.decode()
    assert not Execution.objects.exists()


def test_without_an_engine_the_form_says_why(page, client, account, runtime):
    runtime.reasons = ["bubblewrap: user namespaces are off"]
    page("execution-new")

    answer = post(client, account, "execution-new", **filled())

    assert answer.status_code == 503
    assert b"user namespaces are off" in answer.content


def test_stopping_and_running_again(page, client, account):
    execution = factories.make_execution(account)
    page("executions")

    post(client, account, "execution-cancel", execution.pk)
    execution.refresh_from_db()
    again = post(client, account, "execution-rerun", execution.pk)

    assert execution.state == "cancelled"
    assert Execution.objects.get(rerun_of=execution).pk in [Execution.objects.order_by("-pk")[0].pk]
    assert again.status_code == 302


def test_stopping_what_has_ended_says_so(page, client, account, runtime):
    execution = ended(runtime, account)
    page("executions")

    answer = client.post(reverse("sandboxes:execution-cancel", args=[account, execution.pk]), follow=True)

    assert b"had ended already" in answer.content


@pytest.mark.parametrize("name", ["executions", "pools", "sandboxes", "templates", "execution-new", "pool-new"])
def test_every_page_opens(page, name):
    assert page(name).status_code == 200


def test_pools_show_what_the_node_says(page):
    text = page("pools").content.decode()

    assert "0 of 10 running" in text
    assert "everybody" in text


def test_a_missing_engine_is_told_on_the_pools_page(page, runtime):
    runtime.reasons = ["no bwrap here"]

    assert b"no bwrap here" in page("pools").content


def test_a_pool_is_opened_changed_and_closed(page, client, account):
    template = Pool.objects.get(account=None, name="python").template
    fields = {
        "name": "fast",
        "template": template.pk,
        "min_size": 0,
        "max_size": 3,
        "idle_timeout_seconds": 60,
        "max_age_seconds": 600,
        "memory_mb": 128,
    }
    page("pools")

    post(client, account, "pool-new", **fields)
    pool = Pool.objects.get(name="fast")
    clash = post(client, account, "pool-new", **fields)
    post(client, account, "pool", pool.pk, **fields | {"max_size": 5})
    pool.refresh_from_db()
    assert (pool.limits, pool.max_size, pool.version) == ({"memory_mb": 128}, 5, 2)
    assert clash.status_code == 422
    post(client, account, "pool-close", pool.pk)

    assert not Pool.objects.filter(name="fast").exists()


def test_the_engine_page_is_for_staff(page, client, account):
    assert page("engine").status_code == 404

    client.force_login(factories.make_staff())
    answer = client.get(reverse("sandboxes:engine", args=[account]))

    assert b"nothing leaves" in answer.content


def test_the_engine_page_shows_each_node_with_its_probes_and_links_to_it(client, account):
    now = timezone.now().isoformat()
    probes = [{"engine": "gvisor", "ok": False, "reasons": ["runsc is too old"]}]
    said = {"since": now, "why": "It passed its self-test.", "seen": now, "promises": ["its own kernel"], "limits": {}}
    strong = said | {"engine": "gvisor", "probes": [{"engine": "gvisor", "ok": True, "reasons": []}]}
    none = said | {"engine": None, "probes": probes, "promises": [], "reasons": ["gvisor: runsc is too old"]}
    for name, told in (("node-a", strong), ("node-b", none)):
        factories.make_node(name, metadata={"told": {"sandboxes": told}})
    client.force_login(factories.make_staff())

    shown = client.get(reverse("sandboxes:engine", args=[account])).content.decode()
    node = Node.objects.get(name="node-b")
    of_node = client.get(reverse("scaling:node", args=[account, node.pk])).content.decode()

    assert "its own kernel" in shown
    assert "Refuses" in shown
    assert shown.count("runsc is too old") == 2
    assert reverse("scaling:node", args=[account, node.pk]) in shown
    assert reverse("sandboxes:engine", args=[account]) + "#engine-node-b" in of_node


def test_the_engine_page_shows_the_cloud_too(client, account, e2b):
    e2b.reasons = ["E2B does not let us in: correct E2B_API_KEY."]
    engine.forget("e2b")
    client.force_login(factories.make_staff())

    text = client.get(reverse("sandboxes:engine", args=[account])).content.decode()

    assert "E2B cloud" in text
    assert "correct E2B_API_KEY" in text


def test_where_a_pool_runs_is_asked_only_where_there_is_a_choice(page):
    assert b"Runs on" not in page("pool-new").content


def test_a_pool_is_told_where_to_run(page, client, account, e2b):
    template = Pool.objects.get(account=None, name="python").template
    fields = {"name": "fast", "template": template.pk, "min_size": 0, "max_size": 3}
    fields |= {"idle_timeout_seconds": 60, "max_age_seconds": 600, "runtimes": "local,e2b"}
    assert "As usual here: own nodes" in page("pool-new").content.decode()

    post(client, account, "pool-new", **fields)
    pool = Pool.objects.get(name="fast")
    assert pool.runtimes == ["local", "e2b"]
    assert "own nodes, then E2B cloud" in page("pools").content.decode()
    assert '<option value="local,e2b" selected>' in page("pool", pool.pk).content.decode()
    e2b.refuses = {"limits.cpu": "A sandbox at E2B has 2 CPUs."}
    factories.make_execution(account, pool="fast")
    stranded = post(client, account, "pool", pool.pk, **fields | {"runtimes": "e2b"})

    assert stranded.status_code == 422
    assert "its new runtimes cannot run" in stranded.content.decode()


def test_a_pool_whose_runtime_is_away_says_so_on_its_card(page, account, e2b):
    factories.make_pool(account, name="cloud", min_size=0, runtimes=["e2b"])
    e2b.reasons = ["E2B does not answer."]
    engine.forget("e2b")

    text = page("pools").content.decode()

    assert "E2B does not answer." in text
    assert "No sandbox can run code at the moment" not in text


def test_an_execution_says_where_it_ran(page, account, runtime):
    execution = ended(runtime, account)

    assert "own nodes" in page("execution", execution.pk, part="side").content.decode()


def test_an_outsider_finds_nothing(client, account):
    execution = factories.make_execution(account)
    client.force_login(factories.make_user("Charlie"))

    for name, *args in (("executions",), ("execution", execution.pk), ("execution-row", execution.pk), ("pools",)):
        assert client.get(reverse(f"sandboxes:{name}", args=[account, *args])).status_code == 404


def test_a_member_of_two_accounts_finds_each_thing_in_its_own(client, alice, account):
    execution = factories.make_execution(account)
    other = factories.make_account(alice, name="Other")
    client.force_login(alice)

    assert client.get(reverse("sandboxes:execution", args=[other, execution.pk])).status_code == 404


def test_a_viewer_sees_and_cannot_act(client, account):
    execution = factories.make_execution(account)
    client.force_login(factories.make_viewer(account))

    answer = client.get(reverse("sandboxes:execution", args=[account, execution.pk]))

    assert answer.status_code == 200
    assert b"Stop" not in answer.content
    assert client.get(reverse("sandboxes:execution-new", args=[account])).status_code == 403
    assert post(client, account, "execution-cancel", execution.pk).status_code == 403
    assert Execution.objects.get().state == "queued"


# --- templates


def test_the_templates_say_their_state_packages_size_and_users(page, account):
    template = factories.make_template(account, "six==1.17.0", name="mine", state="ready")
    factories.make_pool(account, template=template)
    factories.make_execution(account, template=str(template.pk))

    text = page("templates").content.decode()

    shown = ("mine", "six==1.17.0", bytesize(1000), "1 pool, 1 execution", "everybody's")
    assert [word for word in shown if word not in text] == []


def test_the_templates_take_the_same_few_queries_for_one_or_many(page, account):
    factories.make_template(account, "a==1")
    page("templates")
    with CaptureQueriesContext(connection) as one:
        page("templates")
    for number in range(4):
        factories.make_template(account, f"b=={number}")
    with CaptureQueriesContext(connection) as many:
        page("templates")

    assert len(many) == len(one)


def test_a_template_is_made_from_the_form(page, client, account):
    assert b"Build it" in page("template-new").content

    packages = "six==1.17.0\r\n\r\n  attrs==25.1.0 "
    answer = post(client, account, "template-new", name="mine", language="python", packages=packages)

    template = Template.objects.get(name="mine")
    assert answer.url == reverse("sandboxes:template", args=[account, template.pk])
    assert template.packages == ["attrs==25.1.0", "six==1.17.0"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "This field is required."),
        ({"name": "taken"}, "There is a template named taken already."),
        ({"language": "cobol"}, "Select a valid choice."),
        ({"packages": "six==1.17.0\nattrs"}, "names no version. Give an exact one, such as six==1.17.0."),
        ({"packages": "-r x"}, "Options, addresses and paths are not allowed."),
    ],
)
def test_a_fault_of_a_template_is_shown_where_it_is(page, client, account, changes, message):
    factories.make_template(account, name="taken")
    page("template-new")

    fields = {"name": "mine", "language": "python", "packages": "six==1.17.0"} | changes
    answer = post(client, account, "template-new", **fields)

    assert answer.status_code == 422
    assert message in unescape(answer.content.decode())


def test_without_an_engine_no_template_is_made_and_the_form_says_why(page, client, account, runtime):
    runtime.reasons = ["bubblewrap: user namespaces are off"]
    page("template-new")

    answer = post(client, account, "template-new", name="mine", language="python", packages="six==1.17.0")

    assert answer.status_code == 503
    assert b"user namespaces are off" in answer.content


def test_a_template_shows_its_log_while_it_builds(page, account):
    template = factories.make_template(account)
    waiting = page("template", template.pk).content.decode()
    Build.objects.update(log="Collecting <b>six</b>")

    text = page("template", template.pk).content.decode()

    assert "Waiting for its turn" in waiting
    assert "Collecting &lt;b&gt;six&lt;/b&gt;" in text
    assert f'hx-trigger="template-{template.pk} from:body' in text


def test_a_failed_template_says_why_and_is_built_again(page, client, account):
    template = factories.make_template(account, state="failed")
    text = page("template", template.pk).content.decode()

    post(client, account, "template-rebuild", template.pk)
    twice = post(client, account, "template-rebuild", template.pk)

    template.refresh_from_db()
    assert "There is no such package." in text
    assert "Build again" in text
    assert template.state == "building"
    assert twice.status_code == 302


def test_a_template_in_use_is_not_deleted_and_then_it_is(page, client, account):
    page("templates")
    template = factories.make_template(account, state="ready")
    pool = factories.make_pool(account, template=template, name="fast")

    post(client, account, "template-delete", template.pk)
    assert "the pool fast" in page("template", template.pk).content.decode()
    pool.delete()
    answer = post(client, account, "template-delete", template.pk)

    assert answer.url == reverse("sandboxes:templates", args=[account])
    assert not Template.objects.filter(pk=template.pk).exists()


def test_what_everybody_uses_has_no_buttons(page):
    text = page("template", Template.objects.get(account=None, name="python").pk).content.decode()

    assert "came with the product" in text
    assert "Delete" not in text


def test_an_own_pool_is_offered_own_templates_but_no_failed_ones(page, account):
    factories.make_template(account, "a==1", name="good", state="ready")
    factories.make_template(account, "b==1", name="coming")
    factories.make_template(account, "c==1", name="bad", state="failed")

    text = page("pool-new").content.decode()

    assert "good (Python)" in text
    assert "coming (building)" in text
    assert "bad" not in text


def test_an_execution_whose_template_was_deleted_still_has_its_page(page, account, runtime):
    template = factories.make_template(account, state="ready")
    runtime.templates.add(template.address)
    execution = factories.make_execution(account, template=str(template.pk))
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)
    template.delete()

    assert page("execution", execution.pk).status_code == 200
