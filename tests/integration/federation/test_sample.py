import io

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing.models import Account
from federation import showcase, training, workloads
from federation.models import Agent, Federation, Task
from federation.sample import sweep
from tests import factories

pytestmark = pytest.mark.django_db


def test_the_sample_is_two_federations_with_agents_and_backtests():
    account = factories.make_account()

    made = showcase.load(account=account, now=timezone.now())

    assert [(one.name, one.topology, one.agents.count()) for one in made] == [
        ("Research desk", "hierarchical", 8),
        ("Trading floor", "mesh", 5),
    ]
    assert made[0].tasks.count() == len(sweep.sample_jobs()) + len(training.MODELS)
    made[0].refresh_from_db()
    assert made[0].leader.name == "chief"


def test_loading_the_sample_again_adds_nothing():
    account = factories.make_account()
    showcase.load(account=account, now=timezone.now())

    assert showcase.load(account=account, now=timezone.now()) == []

    assert (Federation.objects.count(), Agent.objects.count()) == (2, 13)


def test_every_task_of_the_sample_has_an_agent_that_can_do_it_and_a_valid_payload():
    account = factories.make_account()
    for federation in showcase.load(account=account, now=timezone.now()):
        abilities = [set(agent.capabilities) for agent in federation.agents.all()]
        for task in federation.tasks.all():
            assert any(set(task.required_capabilities) <= each for each in abilities)
            assert workloads.execution_arguments(type=task.type, payload=task.payload)["language"] == "python"


def test_the_command_makes_the_demo_account_when_it_is_missing():
    said = io.StringIO()

    call_command("load_sample", stdout=said)
    call_command("load_sample", stdout=said)

    assert Account.objects.get().slug == "demo"
    assert "Research desk with 8 agents" in said.getvalue()
    assert "has the sample already" in said.getvalue()
    assert Task.objects.exists()


def test_the_command_refuses_an_unknown_account():
    with pytest.raises(CommandError, match="no account 'nobody'"):
        call_command("load_sample", account="nobody")
