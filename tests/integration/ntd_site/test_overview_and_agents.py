"""What pages say of agents and of nodes that waver."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.template import Context, Engine
from django.utils import timezone

from ntd_site import overview
from scaling.models import StatusChange
from tests import factories

pytestmark = pytest.mark.django_db


def agent_said(account, text: str) -> str:
    engine = Engine(builtins=["ntd_site.formats"], libraries={})
    return engine.from_string("{% agent text %}").render(Context({"account": account, "text": text}))


def test_an_agent_of_the_account_reads_as_its_name_and_leads_to_its_page():
    account = factories.make_account()
    agent = factories.make_agent(factories.make_federation(account), name="<momentum>")
    said = agent_said(account, str(agent.pk))
    assert said == f'<a href="/o/{account.slug}/agents/{agent.pk}/">&lt;momentum&gt;</a>'


def test_the_name_of_somebody_elses_agent_is_not_told():
    agent = factories.make_agent(factories.make_federation(factories.make_account()))
    outsider = factories.make_account(factories.make_user("Charlie"), name="Other")
    assert agent_said(outsider, str(agent.pk)) == str(agent.pk)


def test_a_node_that_wavers_is_in_the_activity_once():
    account, node, now = factories.make_account(), factories.make_node("node-1"), timezone.now()
    for minutes, after in ((3, "unhealthy"), (2, "healthy"), (1, "degraded")):
        StatusChange.objects.create(
            node=node, before="unknown", after=after, reason="CPU.", at=now - timedelta(minutes=minutes)
        )
    shown = overview.activity(account, SimpleNamespace(is_staff=True))
    assert [each["text"] for each in shown] == ["Node node-1 is degraded: CPU."]
