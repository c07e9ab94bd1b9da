from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate

if TYPE_CHECKING:
    from sandboxes.runtimes import Runtime


class SandboxesConfig(AppConfig):
    name = "sandboxes"

    def ready(self) -> None:
        from sandboxes import built_in, engine
        from sandboxes.runtimes.local import LocalRuntime
        from sandboxes.scaling_target import TYPE, PoolTarget
        from scaling import targets

        engine.register(engine.LOCAL, LocalRuntime(settings.SANDBOX_SOCKET))
        if settings.E2B_API_KEY:
            engine.offer(engine.E2B, _e2b)
        targets.register(TYPE, PoolTarget())
        post_migrate.connect(built_in.ensure, sender=self)


def _e2b() -> Runtime:
    # The SDK takes a second to import and 40 MB to keep, which only processes that use it pay.
    from sandboxes.runtimes.e2b.cloud import Plan
    from sandboxes.runtimes.e2b.runtime import E2BRuntime

    return E2BRuntime(
        Plan(
            api_key=settings.E2B_API_KEY,
            templates={"python": settings.E2B_TEMPLATE_PYTHON, "node": settings.E2B_TEMPLATE_NODE},
            cpus=settings.E2B_SANDBOX_CPUS,
            memory_mb=settings.E2B_SANDBOX_MEMORY_MB,
            longest_seconds=settings.E2B_LONGEST_SECONDS,
            network=settings.SANDBOX_NETWORK,
            domain=settings.E2B_DOMAIN,
            api_url=settings.E2B_API_URL,
            sandbox_url=settings.E2B_SANDBOX_URL,
        )
    )
