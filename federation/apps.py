from django.apps import AppConfig


class FederationConfig(AppConfig):
    name = "federation"

    def ready(self) -> None:
        from federation import receivers
        from federation.signals import mail_came
        from sandboxes.signals import execution_finished

        execution_finished.connect(receivers.execution_finished, dispatch_uid="federation.tasks")
        mail_came.connect(receivers.mail_came, dispatch_uid="federation.sittings")
