"""Staff's pages: nodes, groups, decisions, balancers; and that nobody else finds them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import Account
from scaling import autoscaler, nodes, picks, targets
from scaling.models import Balancer, Decision, Group, Node
from tests.factories import make_account, make_balancer, make_group, make_node, make_staff, make_user
from tests.fakes import FakeTarget

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def account() -> Account:
    return make_account(make_user("Alice"))


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(make_staff())
    return client


def at(name: str, account: Account, *args: Any) -> str:
    return reverse(f"scaling:{name}", args=[account, *args])


def text(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


@pytest.mark.parametrize("name", ["nodes", "node-new", "groups", "group-new", "decisions", "balancers", "balancer-new"])
def test_to_everyone_but_staff_the_pages_are_not_there(client: Client, account: Account, name: str) -> None:
    path = at(name, account)
    client.force_login(account.memberships.get().user)
    alice = client.get(path).status_code
    client.force_login(make_staff())
    stella = client.get(path).status_code

    assert (alice, stella) == (404, 200)


@pytest.mark.parametrize(
    "name",
    ["node-drain", "node-resume", "node-remove", "group-pause", "group-resume", "group-evaluate", "group-remove"],
)
def test_acts_are_staffs_and_need_a_post(client: Client, account: Account, name: str) -> None:
    path = at(name, account, uuid4())
    client.force_login(account.memberships.get().user)
    alice = client.post(path).status_code
    client.force_login(make_staff())

    assert (alice, client.get(path).status_code, client.post(path).status_code) == (404, 405, 404)


# --- nodes


def test_the_list_shows_each_node_with_status_and_load(staff: Client, account: Account) -> None:
    make_node("alpha", cpu=0.42, memory=0.91)
    make_node("beta", status="unhealthy", draining=True)

    page = staff.get(at("nodes", account))

    assert "Healthy" in text(page)
    assert "Draining" in text(page)
    assert "42" in text(page)
    assert 'aria-label="Memory 91 %"' in page.content.decode()


def test_the_list_searches_filters_and_says_when_nothing_matches(staff: Client, account: Account) -> None:
    make_node("alpha")
    make_node("beta", status="degraded")

    found = staff.get(at("nodes", account) + "?q=alp", headers=HTMX)
    degraded = staff.get(at("nodes", account) + "?status=degraded", headers=HTMX)
    none = staff.get(at("nodes", account) + "?q=zzz", headers=HTMX)

    assert "alpha" in text(found)
    assert "beta" not in text(found)
    assert "<html" not in found.content.decode()
    assert "alpha" not in text(degraded)
    assert "No node matches" in text(none)


def test_the_list_takes_as_many_queries_for_many_nodes(
    staff: Client, account: Account, django_assert_max_num_queries: Any
) -> None:
    for _ in range(60):
        make_node()

    with django_assert_max_num_queries(16):
        page = staff.get(at("nodes", account))

    assert "1–50 of 60" in text(page)  # noqa: RUF001 - the page writes a range so


def test_the_name_of_a_node_cannot_carry_markup(staff: Client, account: Account) -> None:
    make_node("x", role="<img src=x>")

    assert "<img" not in staff.get(at("nodes", account)).content.decode()


def test_draining_by_button_answers_the_row_and_says_so(staff: Client, account: Account) -> None:
    node = make_node("alpha")

    row = staff.post(at("node-drain", account, node.pk), headers=HTMX)
    page = staff.post(at("node-resume", account, node.pk))

    assert f'id="node-{node.pk}"' in row.content.decode()
    assert "Resume" in text(row)
    assert "alpha drains" in row["HX-Trigger"]
    assert page["Location"] == at("node", account, node.pk)
    assert not Node.objects.get().draining


def test_a_nodes_page_shows_its_health_processes_history_and_changes(staff: Client, account: Account) -> None:
    now = timezone.now()
    seen = {"web": {"pid": 7, "rss": 1 << 20, "threads": 3, "cpu": 0.1, "seen": now.isoformat()}}
    seen["worker"] = seen["web"] | {"seen": (now - timedelta(minutes=5)).isoformat()}
    seen["old"] = seen["web"] | {"seen": (now - timedelta(days=1)).isoformat()}
    for second in (-10, -5, 0):
        moment = now + timedelta(seconds=second)
        node = nodes.report(name="alpha", cpu=0.4, observed_at=moment, now=moment, metadata={"processes": seen})

    page = staff.get(at("node", account, node.pk))

    said = text(page)
    assert "Healthy was unknown" in said
    assert "worker Silent" in said
    assert "old" not in re.findall(r"<th scope=\"row\">(\w+)</th>", page.content.decode())
    assert f'id="load-{node.pk}"' in page.content.decode()


@pytest.mark.parametrize("part", ["now", "charts", "changes"])
def test_each_part_of_a_nodes_page_refetches_itself(staff: Client, account: Account, part: str) -> None:
    node = make_node()

    answer = staff.get(at("node", account, node.pk) + f"?part={part}", headers=HTMX).content.decode()

    assert f'id="node-{part}"' in answer
    assert f"?part={part}" in answer
    assert "<html" not in answer


def test_registering_by_page_shows_the_token_once(staff: Client, account: Account) -> None:
    wanted = {"name": "far", "role": "worker", "region": "", "weight": 1, "beat_seconds": 1}
    made = staff.post(at("node-new", account), wanted)
    again = staff.post(at("node-new", account), wanted)

    assert "ntn_" in made.content.decode()
    assert again.status_code == 422
    assert Node.objects.count() == 1


def test_removing_a_working_node_is_refused_with_a_sentence(staff: Client, account: Account) -> None:
    alive, dead = make_node("alive"), make_node("dead", status="unhealthy")

    refused = staff.post(at("node-remove", account, alive.pk), follow=True)
    staff.post(at("node-remove", account, dead.pk))

    assert "Drain it first" in text(refused)
    assert [node.name for node in Node.objects.all()] == ["alive"]


def test_the_command_registers_a_node_and_renews_its_token(capsys: Any) -> None:
    call_command("node", "far", "--json")
    first = capsys.readouterr().out
    call_command("node", "far")
    second = capsys.readouterr().out

    assert '"token": "ntn_' in first
    assert "ntn_" in second
    with pytest.raises(CommandError, match="no name"):
        call_command("node", "not a name")


# --- groups


def form(**changes: Any) -> dict[str, Any]:
    wanted = vars(autoscaler.policy_of(Group())) | {"step": ""}
    columns = {autoscaler.COLUMN.get(field, field): value for field, value in wanted.items()}
    return {"name": "workers", "target": "fake:one"} | columns | changes


def test_a_group_is_made_by_form(staff: Client, account: Account, fake_target: FakeTarget) -> None:
    shown = staff.get(at("group-new", account))
    made = staff.post(at("group-new", account), form(max_size=7))

    assert "Fake things: Fake one" in text(shown)
    group = Group.objects.get()
    assert made["Location"] == at("group", account, group.pk)
    assert (group.target_id, group.max_size) == ("one", 7)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"target": "kubernetes:x"}, "Select a valid choice"),
        ({"min_size": 9, "max_size": 3}, "violated"),
        ({"name": ""}, "required"),
    ],
)
def test_a_wrong_group_comes_back_with_its_errors(
    staff: Client, account: Account, fake_target: FakeTarget, changes: dict[str, Any], sentence: str
) -> None:
    answer = staff.post(at("group-new", account), form(**changes))

    assert answer.status_code == 422
    assert sentence in text(answer)
    assert not Group.objects.exists()


def test_a_target_that_has_a_group_is_refused_by_the_form(
    staff: Client, account: Account, fake_target: FakeTarget
) -> None:
    make_group("one")

    answer = staff.post(at("group-new", account), form())

    assert answer.status_code == 422
    assert "already" in text(answer)


def test_without_any_target_the_form_says_that_nothing_can_be_scaled(staff: Client, account: Account) -> None:
    registered = dict(targets._registered)
    targets._registered.clear()
    answer = staff.get(at("group-new", account))
    targets._registered.update(registered)

    assert "Nothing here can be scaled" in text(answer)


def test_a_policy_is_changed_unless_somebody_was_first(
    staff: Client, account: Account, fake_target: FakeTarget
) -> None:
    group = make_group()
    path = at("group-edit", account, group.pk)

    first = staff.post(path, form(max_size=9, version=1))
    late = staff.post(path, form(max_size=8, version=1))

    assert (first.status_code, late.status_code) == (302, 422)
    assert "meanwhile" in text(late)
    assert Group.objects.get().max_size == 9


def test_the_pages_show_decisions_with_their_reasons(staff: Client, account: Account, fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 1.0
    group = make_group(paused=True)
    now = timezone.now()
    for second in (0, 5, 10):
        autoscaler.evaluate(group_id=group.pk, by=autoscaler.SCALER, now=now + timedelta(seconds=second))
    autoscaler.resume(group=group)
    autoscaler.evaluate(group_id=group.pk, by=autoscaler.SCALER, now=now + timedelta(seconds=15))

    for path in (at("groups", account), at("group", account, group.pk), at("decisions", account)):
        said = text(staff.get(path))
        assert "aiming for 70%" in said
        assert "3 times" in said
        assert "The group is paused." in said
        assert "2 → 3" in said
    assert f'id="sizes-{group.pk}"' in staff.get(at("group", account, group.pk)).content.decode()


def test_a_group_whose_target_is_gone_still_has_its_page(staff: Client, account: Account) -> None:
    group = make_group("one", target_type="vanished")

    assert "Target gone" in text(staff.get(at("group", account, group.pk)))
    assert "Target gone" in text(staff.get(at("groups", account)))


def test_a_dry_run_by_button_shows_the_verdict_and_keeps_nothing(
    staff: Client, account: Account, fake_target: FakeTarget
) -> None:
    fake_target.metrics["cpu"] = 1.0
    path = at("group-evaluate", account, make_group().pk)

    dry = staff.post(path, {"dry_run": "true"}, headers=HTMX)
    kept_by_dry = Decision.objects.count()
    plain = staff.post(path)

    assert "A dry run would come to:" in text(dry)
    assert kept_by_dry == 0
    assert "Back to the group" in text(plain)
    assert Decision.objects.get().by


def test_decisions_are_filtered_by_action(staff: Client, account: Account, fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 1.0
    autoscaler.evaluate(group_id=make_group().pk, by="x", now=timezone.now())

    up = staff.get(at("decisions", account) + "?action=up", headers=HTMX)
    held = staff.get(at("decisions", account) + "?action=held", headers=HTMX)

    assert "aiming for" in text(up)
    assert "No such decision" in text(held)


def test_a_group_is_paused_resumed_and_removed_by_button(
    staff: Client, account: Account, fake_target: FakeTarget
) -> None:
    group = make_group()
    staff.post(at("group-pause", account, group.pk))
    paused = Group.objects.get().paused
    staff.post(at("group-resume", account, group.pk))
    resumed = Group.objects.get().paused
    staff.post(at("group-remove", account, group.pk))

    assert (paused, resumed, Group.objects.count()) == (True, False, 0)


def test_switched_off_auto_scaling_is_said(staff: Client, account: Account, settings: Any) -> None:
    settings.AUTO_SCALE = False

    assert "Auto-scaling is off" in text(staff.get(at("groups", account)))


# --- balancers


def test_the_balancers_page_shows_shares(staff: Client, account: Account) -> None:
    make_node("alpha")
    balancer = make_balancer(name="edge")
    picks.pick(balancer=balancer, now=timezone.now())

    said = text(staff.get(at("balancers", account)))

    assert "edge" in said
    assert "alpha" in said
    assert "Round robin" in said


def test_a_balancer_is_made_and_removed_by_page(staff: Client, account: Account) -> None:
    wanted = {"name": "edge", "strategy": "ip_hash"}
    staff.post(at("balancer-new", account), wanted)
    twice = staff.post(at("balancer-new", account), wanted)
    made = Balancer.objects.get()
    staff.post(at("balancer-remove", account, made.pk))

    assert (twice.status_code, made.strategy, Balancer.objects.count()) == (422, "ip_hash", 0)


@pytest.mark.parametrize("model", ["node", "statuschange", "group", "decision", "balancer", "lease"])
def test_the_admin_only_reads(client: Client, model: str) -> None:
    client.force_login(make_user("Root", is_staff=True, is_superuser=True))

    assert client.get(f"/admin/scaling/{model}/").status_code == 200
    assert client.get(f"/admin/scaling/{model}/add/").status_code == 403
