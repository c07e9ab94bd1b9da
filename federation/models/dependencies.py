"""Which task needs which. A task's id is above those of what it needs, so no circle can be stored."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from federation.models.federations import Federation
from federation.models.tasks import Task


class Dependency(models.Model):
    """`task` starts only when `needs` has succeeded. Both are of the federation: foreign keys over two columns."""

    federation = models.ForeignKey(Federation, on_delete=models.CASCADE, related_name="+")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="dependencies", db_constraint=False)
    needs = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="dependants", db_constraint=False)
    # In the order asked for, in which the results are handed over.
    position = models.PositiveSmallIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["task", "needs"], name="one_dependency_per_pair"),
            models.UniqueConstraint(fields=["task", "position"], name="one_dependency_per_position"),
            models.CheckConstraint(condition=Q(needs__lt=F("task")), name="dependencies_make_no_circle"),
        ]

    def __str__(self) -> str:
        return f"{self.task_id} needs {self.needs_id}"
