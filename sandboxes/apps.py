from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate


class SandboxesConfig(AppConfig):
    name = "sandboxes"

    def ready(self) -> None:
        from sandboxes import built_in, engine
        from sandboxes.runtimes.local import LocalRuntime
        from sandboxes.scaling_target import TYPE, PoolTarget
        from scaling import targets

        engine.register(engine.LOCAL, LocalRuntime(settings.SANDBOX_SOCKET))
        targets.register(TYPE, PoolTarget())
        post_migrate.connect(built_in.ensure, sender=self)
