from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "ntd_site"

    def ready(self) -> None:
        from ntd_site import checks, clock

        checks.register()
        clock.install()
