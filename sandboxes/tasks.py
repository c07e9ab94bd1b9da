"""Background tasks. A message is a doorbell: whoever rings, the fairest waiting execution is served."""

from __future__ import annotations

from celery import current_app, shared_task
from django.utils import timezone

from sandboxes import builder, claims, engine, executor, orphans
from sandboxes.models import Build

# More doorbells than this help nobody, and the next sweep is near.
MOST_RINGS = 50
QUEUE = "executions"


@shared_task
def run_execution(execution_id: str | None = None) -> None:
    execution = claims.claim(now=timezone.now())
    if execution is None:
        return  # While no runtime is up all keep their places and attempts; the sweep rings until one is back.
    wait = executor.run(execution=execution, clock=timezone.now)
    if wait is not None:
        run_execution.apply_async(countdown=wait)
    elif execution.fills_pool:
        # Those whose doorbell found the pool full are still waiting.
        run_execution.delay()


@shared_task
def sweep_executions() -> None:
    """Finds what was lost: leases of dead workers, doorbells nobody heard, executions nobody will run."""
    now = timezone.now()
    executor.expire_leases(now=now)
    executor.drop_stale(now=now)
    waiting = claims.waiting(now=now, most=MOST_RINGS)
    for _ in range(waiting - _ringing() if waiting else 0):
        run_execution.delay()


@shared_task
def end_orphans() -> None:
    """Ends the sandboxes in the cloud that a dead process, or an answer that never came, left behind."""
    orphans.end()


@shared_task
def build_template(build_id: str | None = None) -> None:
    """A doorbell too: the build that has waited longest is built."""
    if not engine.is_up():
        return
    build = builder.claim(now=timezone.now())
    if build is None:
        return
    wait = builder.run(build=build, clock=timezone.now)
    if wait is not None:
        build_template.apply_async(countdown=wait)


@shared_task
def sweep_builds() -> None:
    """Rings for builds that nobody heard of, and for those whose worker died."""
    if Build.objects.claimable(timezone.now()).exists():
        build_template.delay()


def _ringing() -> int:
    """How many doorbells the broker still holds."""
    with current_app.connection_for_write() as broker:
        return int(broker.default_channel.queue_declare(QUEUE, passive=False).message_count)
