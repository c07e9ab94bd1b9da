"""Makes the things tests need. The cast: Alice owns, Bob shares as operator, Charlie is an outsider, Stella is staff."""

from __future__ import annotations

import itertools
from typing import Any

from django.utils import timezone

from billing import accounts, keys
from billing.models import Account, ApiKey, Role, User
from federation import agents, coordination
from federation.models import Agent, Federation, Task
from sandboxes import executions, keeping, lifetimes, templates
from sandboxes.models import Build, Execution, Pool, Sandbox, Template
from scaling.models import Balancer, Group, Node

_number = itertools.count(1)


def make_user(name: str = "Alice", **changes: Any) -> User:
    return User.objects.create_user(**{"email": f"{name.lower()}{next(_number)}@example.com", "name": name} | changes)


def make_account(owner: User | None = None, name: str = "Acme Capital") -> Account:
    return accounts.open_account(name=name, owner=owner or make_user())


def make_staff() -> User:
    return make_user("Stella", is_staff=True)


def make_operator(account: Account) -> User:
    return _member(account, "Bob", Role.OPERATOR)


def make_viewer(account: Account) -> User:
    return _member(account, "Vera", Role.VIEWER)


def _member(account: Account, name: str, role: str) -> User:
    user = make_user(name)
    accounts.add_member(account=account, user=user, role=role)
    return user


def make_key(account: Account, scopes: tuple[str, ...] = keys.SCOPES, **changes: Any) -> tuple[ApiKey, str]:
    """A key and its secret."""
    wanted = {"name": "test", "scopes": scopes, "by": None, "now": timezone.now()} | changes
    return keys.create(account=account, **wanted)


def make_node(name: str = "", status: str = "healthy", **changes: Any) -> Node:
    """A node that beat a moment ago (or, when its status is unknown, never did)."""
    now = changes.pop("now", timezone.now())
    seen = {} if status == "unknown" else {"last_seen_at": now, "heard_at": now, "observed_at": now}
    return Node.objects.create(
        **{"name": name or f"node-{next(_number)}", "status": status, "created_at": now} | seen | changes
    )


def make_group(target_id: str = "one", **changes: Any) -> Group:
    """A group of the fake target that the fixture `fake_target` registers."""
    return Group.objects.create(
        **{"name": f"group {next(_number)}", "target_type": "fake", "target_id": target_id} | changes
    )


def make_balancer(strategy: str = "round_robin", **changes: Any) -> Balancer:
    return Balancer.objects.create(**{"name": f"balancer {next(_number)}", "strategy": strategy} | changes)


def make_execution(account: Account | None = None, **changes: Any) -> Execution:
    """A queued execution of an account (with its credits held)."""
    wanted = {"code": "print(1)", "language": "python", "now": timezone.now()} | changes
    if not wanted.keys() & {"template", "pool", "sandbox"}:
        return executions.submit(account=account or make_account(), **wanted)
    wanted.pop("language")
    return executions.submit(account=account or make_account(), **wanted)


def make_template(account: Account | None = None, *packages: str, state: str = "building", **changes: Any) -> Template:
    """A template of an account, which waits to be built, or whose build is over."""
    wanted = {"name": f"template {next(_number)}", "language": "python", "now": timezone.now(), "by": None} | changes
    asked = packages or ("six==1.17.0",)
    template = templates.create_template(account=account or make_account(), packages_asked=asked, **wanted)
    if state != "building":
        ended = {"ready": {"size_bytes": 1000, "lock": "six==1.17.0"}, "failed": {"error": "There is no such package."}}
        template.build.templates.update(state=state)
        Build.objects.filter(pk=template.build_id).update(state=state, finished_at=timezone.now(), **ended[state])
        template.refresh_from_db()
    return template


def make_sandbox(account: Account | None = None, *, is_open: bool = True, **changes: Any) -> Sandbox:
    """A long-lived sandbox of an account, opened on this node by the runtime of the test; or still to be opened."""
    wanted = {"template": "python", "now": timezone.now()} | changes
    sandbox = keeping.open_sandbox(account=account or make_account(), **wanted)
    if is_open:
        assert lifetimes.open_here(sandbox_id=sandbox.pk, clock=lambda: wanted["now"]) is None
    sandbox.refresh_from_db()
    return sandbox


def make_pool(account: Account | None = None, **changes: Any) -> Pool:
    template = changes.pop("template", None) or Template.objects.get(account=None, name="python")
    size = changes.get("max_size", 10)
    return Pool.objects.create(**{"account": account, "name": "mine", "template": template, "size": size} | changes)


def make_federation(account: Account | None = None, **changes: Any) -> Federation:
    wanted = {"name": "momentum", "by": "Alice", "now": timezone.now()} | changes
    return coordination.create_federation(account=account or make_account(), **wanted)


def make_agent(federation: Federation, name: str = "agent-1", **changes: Any) -> Agent:
    """A remote agent, which does only what a test says."""
    return make_agent_with_token(federation, name, **changes)[0]


def make_agent_with_token(federation: Federation, name: str = "agent-1", **changes: Any) -> tuple[Agent, str]:
    wanted = {"runtime": "remote", "now": timezone.now()} | changes
    agent, token = agents.join(federation=federation, name=name, **wanted)
    return agent, token or ""


def make_mcp_agent(federation: Federation, name: str = "tools", **mcp: Any) -> Agent:
    wanted = mcp or {"url": "https://tools.example/mcp"}
    return coordination.add_agent(federation=federation, name=name, runtime="mcp", mcp=wanted, now=timezone.now())[0]


def make_task(federation: Federation, **changes: Any) -> Task:
    """Queued, even when nobody is there to do it."""
    now, by = changes.pop("now", None) or timezone.now(), changes.pop("by", "Alice")
    order = coordination.Order(**{"type": "work", "queue_if_empty": True} | changes)
    return coordination.submit_task(federation=federation, order=order, by=by, now=now)
