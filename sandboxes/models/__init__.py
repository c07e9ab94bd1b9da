"""What the sandboxes app remembers, one file per noun."""

from sandboxes.models.executions import Artifact, Attempt, Execution, ExecutionQuerySet, OutputChunk
from sandboxes.models.pools import Pool, PoolQuerySet, Template, TemplateQuerySet

__all__ = [
    "Artifact",
    "Attempt",
    "Execution",
    "ExecutionQuerySet",
    "OutputChunk",
    "Pool",
    "PoolQuerySet",
    "Template",
    "TemplateQuerySet",
]
