"""What the sandboxes app remembers, one file per noun."""

from sandboxes.models.builds import Build, BuildQuerySet
from sandboxes.models.executions import Artifact, Attempt, Execution, ExecutionQuerySet, OutputChunk
from sandboxes.models.pools import Pool, PoolQuerySet, Template, TemplateQuerySet

__all__ = [
    "Artifact",
    "Attempt",
    "Build",
    "BuildQuerySet",
    "Execution",
    "ExecutionQuerySet",
    "OutputChunk",
    "Pool",
    "PoolQuerySet",
    "Template",
    "TemplateQuerySet",
]
