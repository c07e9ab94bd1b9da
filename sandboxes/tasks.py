"""Background tasks. A message is a doorbell: whoever rings, the fairest waiting execution is served.

What is for one node's daemon only goes to that node's own queue.
"""

from __future__ import annotations

from celery import current_app, shared_task
from django.utils import timezone

from sandboxes import builder, claims, engine, executor, lifetimes, orphans, setbacks
from sandboxes.models import Build, Execution

# More doorbells than this help nobody, and the next sweep is near.
MOST_RINGS = 50
QUEUE = "executions"


def queue_of(node: str) -> str:
    """The queue that only the workers of a node listen to."""
    return f"node.{node}"


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
def run_in_sandbox(execution_id: str | None = None) -> None:
    """Serve the fairest execution that waits for a long-lived sandbox of this node."""
    execution = claims.claim_in_sandbox(now=timezone.now())
    if execution is None:
        return
    wait = executor.run(execution=execution, clock=timezone.now)
    # Those whose doorbell found the sandbox busy are still waiting.
    ring_sandbox(engine.node(), countdown=wait or 0)


def ring_sandbox(node: str, *, countdown: float = 0) -> None:
    run_in_sandbox.apply_async(queue=queue_of(node), countdown=countdown)


@shared_task
def open_sandbox(sandbox_id: str) -> None:
    wait = lifetimes.open_here(sandbox_id=sandbox_id, clock=timezone.now)
    if wait is not None:
        open_sandbox.apply_async(kwargs={"sandbox_id": sandbox_id}, queue=QUEUE, countdown=wait)
    elif Execution.objects.filter(kept_sandbox=sandbox_id).exists():
        ring_sandbox(engine.node())


@shared_task
def reconcile_sandboxes() -> None:
    """Make the daemon of this node follow the rows now, not only within a second."""
    known = lifetimes.ready_here()
    lifetimes.reconcile(said=engine.describe_anew(), known=known, now=timezone.now())


@shared_task
def sweep_sandboxes() -> None:
    """Lets time pass for long-lived sandboxes, and rings for what nobody heard."""
    now = timezone.now()
    lifetimes.sweep(now=now)
    for sandbox_id in lifetimes.to_open(now=now):
        open_sandbox.apply_async(kwargs={"sandbox_id": str(sandbox_id)}, queue=QUEUE)
    for node, waiting in claims.waiting_in_sandboxes(now=now, most=MOST_RINGS).items():
        for _ in range(waiting - _ringing(queue_of(node))):
            ring_sandbox(node)


@shared_task
def sweep_executions() -> None:
    """Finds what was lost: leases of dead workers, doorbells nobody heard, executions nobody will run."""
    now = timezone.now()
    setbacks.expire_leases(now=now)
    setbacks.drop_stale(now=now)
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


def _ringing(queue: str = QUEUE) -> int:
    """How many doorbells the broker still holds."""
    with current_app.connection_for_write() as broker:
        return int(broker.default_channel.queue_declare(queue, passive=False).message_count)
