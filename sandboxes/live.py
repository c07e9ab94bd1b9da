"""Tells open pages what changed, once it is committed."""

from __future__ import annotations

from functools import partial

from channels.layers import get_channel_layer
from django.db import transaction

from sandboxes.models import Build, Execution, Pool, Template


def execution_changed(execution: Execution) -> None:
    topics = [f"execution-{execution.pk}", "executions"]
    transaction.on_commit(partial(get_channel_layer().nudge, execution.account_id, topics))


def template_changed(template: Template) -> None:
    topics = [f"template-{template.pk}", "templates"]
    transaction.on_commit(partial(get_channel_layer().nudge, template.account_id, topics))


def build_changed(build: Build) -> None:
    """Every template of it has."""
    for template in build.templates.order_by("pk"):
        template_changed(template)


def pool_changed(pool: Pool) -> None:
    transaction.on_commit(partial(get_channel_layer().nudge, pool.account_id, [f"pool-{pool.pk}", "pools"]))
