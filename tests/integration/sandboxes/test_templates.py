"""Making, deleting and rebuilding templates, and what becomes of those who use them."""

from __future__ import annotations

import threading

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from sandboxes import builder, claims, engine, executions, executor, packages, pools, programs, tasks, templates
from sandboxes.models import Build, Execution, Template
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]


def make(account=None, *asked, **changes):
    return factories.make_template(account, *asked, **changes)


def build_all():
    while build := builder.claim(now=timezone.now()):
        builder.run(build=build, clock=timezone.now)


def run_next():
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)


def test_a_new_template_is_building_and_somebody_is_rung_for(django_capture_on_commit_callbacks, monkeypatch):
    rung = []
    monkeypatch.setattr(tasks.build_template, "apply_async", lambda *args, **kwargs: rung.append(args), raising=False)
    with django_capture_on_commit_callbacks(execute=True):
        template = make(None, "Six==1.17.0", "attrs==25.1.0", name="mine")

    assert (template.state, template.packages) == ("building", ["attrs==25.1.0", "six==1.17.0"])
    assert template.address == packages.address("python", template.packages)
    assert (template.log, template.error, template.size_bytes) == ("", "", None)
    assert len(rung) == 1


def test_the_same_content_is_built_once_for_everybody(runtime):
    one = make(None, "a==1", "b==2")
    two = make(factories.make_account(factories.make_user("Charlie")), "B==2", "A==1")

    build_all()
    three = make(None, "a==1", "b==2")
    build_all()

    assert one.build == two.build == three.build
    assert len(runtime.builds) == 1
    assert {Template.objects.get(pk=each.pk).state for each in (one, two, three)} == {"ready"}


def test_other_packages_or_another_language_are_another_build():
    account = factories.make_account()
    made = [make(account, "a==1"), make(account, "a==2"), make(account, "a@1.0.0", language="node")]

    assert len({each.build_id for each in made}) == 3


def refused(error, **changes):
    wanted = {"name": "mine", "language": "python", "packages_asked": ["six==1.17.0"], "by": None} | changes
    account = wanted.pop("account", None) or factories.make_account()
    with pytest.raises(error) as raised:
        templates.create_template(account=account, now=timezone.now(), **wanted)
    return raised.value


def test_a_wrong_item_is_named_and_nothing_is_written():
    fault = refused(programs.Refused, packages_asked=["six==1.17.0", "-r x", "attrs"])

    assert list(fault.errors) == ["packages.1", "packages.2"]
    assert not Build.objects.exists()


@pytest.mark.parametrize(("changes", "field"), [({"language": "cobol"}, "language"), ({"name": "  "}, "name")])
def test_a_wrong_field_is_named(changes, field):
    assert list(refused(programs.Refused, **changes).errors) == [field]


def test_a_name_is_taken_once_in_an_account_and_nothing_is_built_for_the_second():
    account = factories.make_account()
    make(account, "a==1", name="mine")

    refused(templates.NameTaken, account=account, packages_asked=["b==2"])

    assert Build.objects.count() == 1
    assert make(factories.make_account(factories.make_user("Charlie")), "b==2", name="mine").name == "mine"


def test_there_is_a_most_an_account_may_have(monkeypatch):
    monkeypatch.setattr(templates, "MOST", 1)
    account = factories.make_account()
    make(account)

    assert refused(templates.TooMany, account=account).code == "resource_limit_exceeded"


def test_what_cannot_be_installed_here_is_refused_with_the_reason(runtime):
    runtime.cannot_build["node"] = "npm is not installed on this node"
    engine.forget()

    fault = refused(programs.Refused, language="node", packages_asked=["left-pad@1.3.0"])

    assert fault.errors == {
        "language": ["Packages of node cannot be installed here: npm is not installed on this node."]
    }
    assert make(None, "six==1.17.0").state == "building"


def test_without_an_engine_it_is_refused_with_the_reasons(runtime):
    engine.forget()
    runtime.reasons = ["bubblewrap: no user namespaces"]

    refused(engine.EngineUnavailable)


# --- using one


def test_executions_start_from_it_once_it_is_ready(runtime):
    account = factories.make_account()
    template = make(account, name="mine")
    with pytest.raises(programs.Refused) as early:
        factories.make_execution(account, template="mine")
    build_all()

    factories.make_execution(account, template="mine")
    engine.forget()
    run_next()

    assert early.value.errors == {"template": ["Its template is building, not ready."]}
    assert runtime.requests[0].template == template.address
    assert Execution.objects.get().state == "succeeded"


def test_a_pool_may_be_opened_for_one_that_is_still_building():
    account = factories.make_account()
    template = make(account, name="mine")

    pool = pools.open_pool(account=account, name="fast", template="mine", by=None)

    assert pool.template == template


# --- deleting


def delete(template, by=None):
    templates.delete_template(template=template, by=by or factories.make_user())


def test_a_template_nobody_uses_is_deleted_and_its_build_with_it():
    template = make(None, state="ready")

    delete(template)

    assert not Template.objects.exclude(account=None).exists()
    assert not Build.objects.exists()


def test_a_build_that_another_template_starts_from_stays():
    one, two = make(), make(factories.make_account(factories.make_user("Charlie")))

    delete(one)

    assert Build.objects.get() == two.build


def test_one_that_a_pool_starts_from_is_not_deleted():
    account = factories.make_account()
    template = make(account, state="ready")
    pool = factories.make_pool(account, template=template, name="fast")

    with pytest.raises(templates.TemplateInUse, match="the pool fast"):
        delete(template)
    pools.close_pool(pool=pool, by=factories.make_user())
    delete(template)


def test_one_that_an_execution_waits_for_is_not_deleted_and_afterwards_the_execution_stays():
    account = factories.make_account()
    template = make(account, state="ready")
    execution = factories.make_execution(account, template=str(template.pk))

    with pytest.raises(templates.TemplateInUse, match="1 execution"):
        delete(template)
    executions.cancel(execution=execution, by=None, now=timezone.now())
    delete(template)

    execution = Execution.objects.get(pk=execution.pk)
    assert (execution.template, execution.state) == (None, "cancelled")
    with pytest.raises(programs.Refused) as again:
        executions.rerun(execution=execution, by=None, now=timezone.now())
    assert list(again.value.errors) == ["template"]


def test_what_came_with_the_product_is_staffs_and_in_use():
    python = Template.objects.get(account=None, name="python")

    with pytest.raises(templates.BuiltIn):
        delete(python)
    with pytest.raises(templates.TemplateInUse):
        delete(python, by=factories.make_staff())


# --- building again


def test_a_failed_one_is_built_again_for_every_template_of_it(runtime):
    one = make(None, state="failed")
    two = make(factories.make_account(factories.make_user("Charlie")), "x==1", state="failed")

    again = templates.rebuild(template=one, by=None, now=timezone.now())

    assert (again.state, again.error, again.log) == ("building", "", "")
    assert Template.objects.get(pk=two.pk).state == "failed"
    build_all()
    assert Template.objects.get(pk=one.pk).state == "ready"


@pytest.mark.parametrize("state", ["building", "ready"])
def test_only_a_failed_one_is_built_again(state):
    with pytest.raises(templates.NotFailed) as raised:
        templates.rebuild(template=make(None, state=state), by=None, now=timezone.now())

    assert raised.value.extras == {"state": state}


def test_asking_for_what_failed_before_tries_again():
    first = make(None, "a==1", state="failed")

    second = make(None, "a==1")

    first.refresh_from_db()
    assert (first.state, second.state, second.build) == ("building", "building", first.build)


# --- the database, and races


@pytest.mark.parametrize(
    "change",
    [
        {"state": "dancing"},
        {"state": "ready"},
        {"state": "failed", "finished_at": timezone.now()},
        {"state": "ready", "finished_at": timezone.now(), "size_bytes": None},
        {"state": "ready", "finished_at": timezone.now(), "size_bytes": 1, "error": "x"},
        {"state": "failed", "finished_at": timezone.now(), "error": "x", "lease_expires_at": timezone.now()},
        {"attempt": 4},
        {"language": "cobol"},
    ],
)
def test_the_database_refuses_a_build_that_cannot_be(change):
    build = make().build

    with pytest.raises(IntegrityError), transaction.atomic():
        Build.objects.filter(pk=build.pk).update(**change)


def test_the_database_refuses_a_customers_template_without_a_build():
    with pytest.raises(IntegrityError), transaction.atomic():
        Template.objects.create(account=factories.make_account(), name="x", language="python")


@pytest.mark.django_db(transaction=True)
def test_of_many_who_ask_for_the_same_at_once_all_get_it_and_one_build_is_made():
    accounts = [factories.make_account(factories.make_user(f"User {n}")) for n in range(4)]
    start, made = threading.Barrier(4), []

    def race(account):
        start.wait()
        made.append(make(account, "a==1", name="mine").build_id)
        connection.close()

    threads = [threading.Thread(target=race, args=(account,)) for account in accounts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 4
    assert len(set(made)) == Build.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_deleting_and_submitting_at_once_one_wins_whole():
    for _ in range(3):
        account = factories.make_account(factories.make_user("Racer"))
        template = make(account, state="ready")
        start, results = threading.Barrier(2), []

        def submit(account=account, template=template, start=start, results=results):
            start.wait()
            try:
                factories.make_execution(account, template=str(template.pk))
                results.append("submitted")
            except programs.Refused:
                results.append("refused")
            connection.close()

        def remove(template=template, start=start, results=results):
            start.wait()
            try:
                delete(template)
                results.append("deleted")
            except templates.TemplateInUse:
                results.append("in use")
            connection.close()

        threads = [threading.Thread(target=submit), threading.Thread(target=remove)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(results) in (["deleted", "refused"], ["in use", "submitted"])
