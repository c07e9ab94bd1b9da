from typing import Any

from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "ntd_site"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Before any model is imported: fields with `default=timezone.now` keep the function they saw.
        from ntd_site import clock

        clock.install()

    def ready(self) -> None:
        # Importing the Celery application makes it the one that every process enqueues to.
        from ntd_site import celery, checks, receivers
        from scaling import signals

        celery.app.set_default()
        checks.register()
        signals.node_status_changed.connect(receivers.node_status_changed, dispatch_uid="ntd_site.webhooks")
