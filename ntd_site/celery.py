"""The Celery application: `celery -A ntd_site.celery worker`, `... beat`."""

import os
import sys

from celery import Celery
from celery.signals import after_task_publish, beat_init, worker_ready
from django_structlog.celery.steps import DjangoStructLogInitStep
from kombu.transport import TRANSPORT_ALIASES

from ntd_site import heartbeats

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ntd_site.settings")

# A URL of a socket (redis+socket:) chooses its transport by name only.
TRANSPORT_ALIASES["redis"] = "ntd_site.broker:Transport"

app = Celery("ntd")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.steps["worker"].add(DjangoStructLogInitStep)
# The scheduler sends names and runs nothing: what tasks import would be a quarter of its memory.
if "beat" not in sys.argv:
    app.autodiscover_tasks()


@after_task_publish.connect(sender="ntd_site.tasks.sweep")
def scheduler_is_alive(**_: object) -> None:
    """Only the scheduler sends this task, so sending it proves that it lives."""
    heartbeats.beat("scheduler")


@worker_ready.connect
def worker_is_up(**_: object) -> None:
    from sandboxes import cancels, keeper, vitals
    from scaling import heart

    heartbeats.beat("workers")
    keeper.watch.start()
    cancels.watch.start()
    heart.start(
        "worker",
        in_flight=vitals.in_flight,
        error_rate=vitals.error_rate,
        others=vitals.processes,
        tells=vitals.told,
    )


@beat_init.connect
def scheduler_is_up(**_: object) -> None:
    from scaling import heart

    heartbeats.beat("scheduler")
    heart.start("scheduler")
