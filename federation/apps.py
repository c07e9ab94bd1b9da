from django.apps import AppConfig


class FederationConfig(AppConfig):
    name = "federation"

    def ready(self) -> None:
        from federation import receivers
        from sandboxes import signals

        signals.execution_finished.connect(receivers.execution_finished, dispatch_uid="federation.tasks")
