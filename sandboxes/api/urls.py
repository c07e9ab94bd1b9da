"""API endpoints, mounted under /api/v1/. The events of an execution are a stream of their own (streams.py)."""

from django.urls import path, register_converter
from django.urls.converters import PathConverter

from sandboxes.api.engines import EngineViewSet
from sandboxes.api.kept import SandboxViewSet
from sandboxes.api.viewsets import ExecutionViewSet, PoolViewSet, TemplateViewSet


class ArtifactPath(PathConverter):
    """A path as programs make them: a line break in it is a character like any other."""

    regex = "(?s:.+)"


register_converter(ArtifactPath, "artifact")
execution = "executions/<uuid:pk>"
urlpatterns = [
    path("engines", EngineViewSet.as_view({"get": "list"})),
    path("templates", TemplateViewSet.as_view({"get": "list", "post": "create"})),
    path("templates/<uuid:pk>", TemplateViewSet.as_view({"get": "retrieve", "delete": "destroy"})),
    path("templates/<uuid:pk>/rebuild", TemplateViewSet.as_view({"post": "rebuild"})),
    path("pools", PoolViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "pools/<uuid:pk>",
        PoolViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("sandboxes", SandboxViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "sandboxes/<uuid:pk>",
        SandboxViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("executions", ExecutionViewSet.as_view({"get": "list", "post": "create"})),
    path("executions/batch", ExecutionViewSet.as_view({"post": "batch"})),
    path(execution, ExecutionViewSet.as_view({"get": "retrieve"})),
    path(f"{execution}/cancel", ExecutionViewSet.as_view({"post": "cancel"})),
    path(f"{execution}/output", ExecutionViewSet.as_view({"get": "output"})),
    path(
        f"{execution}/artifacts/<artifact:path>",
        ExecutionViewSet.as_view({"get": "artifact"}),
        name="api-execution-artifact",
    ),
]
