"""API endpoints, mounted under /api/v1/. The events of an execution are a stream of their own (streams.py)."""

from django.urls import path

from sandboxes.api.viewsets import ExecutionViewSet, PoolViewSet, TemplateViewSet

execution = "executions/<uuid:pk>"
urlpatterns = [
    path("templates", TemplateViewSet.as_view({"get": "list", "post": "create"})),
    path("templates/<uuid:pk>", TemplateViewSet.as_view({"get": "retrieve", "delete": "destroy"})),
    path("templates/<uuid:pk>/rebuild", TemplateViewSet.as_view({"post": "rebuild"})),
    path("pools", PoolViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "pools/<uuid:pk>",
        PoolViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("executions", ExecutionViewSet.as_view({"get": "list", "post": "create"})),
    path("executions/batch", ExecutionViewSet.as_view({"post": "batch"})),
    path(execution, ExecutionViewSet.as_view({"get": "retrieve"})),
    path(f"{execution}/cancel", ExecutionViewSet.as_view({"post": "cancel"})),
    path(f"{execution}/output", ExecutionViewSet.as_view({"get": "output"})),
    path(
        f"{execution}/artifacts/<path:path>",
        ExecutionViewSet.as_view({"get": "artifact"}),
        name="api-execution-artifact",
    ),
]
