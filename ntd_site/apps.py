from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "ntd_site"

    def ready(self) -> None:
        # Importing the Celery application makes it the one that every process enqueues to.
        from ntd_site import celery, checks, clock

        celery.app.set_default()
        checks.register()
        clock.install()
