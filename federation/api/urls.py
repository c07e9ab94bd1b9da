"""API endpoints, mounted under /api/v1/."""

from django.urls import path

from federation import addresses  # noqa: F401 - the converters of the addresses below
from federation.api.agents import AgentViewSet
from federation.api.batches import AgentTaskViewSet
from federation.api.federations import FederationViewSet
from federation.api.memory import EntryViewSet, NamespaceViewSet
from federation.api.messages import DeadLetterViewSet, MessageViewSet
from federation.api.tasks import TaskViewSet

one = "federations/<uuid:pk>"
of = "federations/<uuid:federation_pk>"
agent = "agents/<uuid:pk>"
task = "tasks/<uuid:pk>"
space = f"{one}/memory/<namespace:namespace>"
entry = f"{space}/<key:key>"
urlpatterns = [
    path("federations", FederationViewSet.as_view({"get": "list", "post": "create"})),
    path(one, FederationViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"})),
    path(f"{one}/topology", FederationViewSet.as_view({"get": "topology"})),
    path(f"{one}/route", FederationViewSet.as_view({"get": "route"})),
    path(f"{one}/events", FederationViewSet.as_view({"get": "events"})),
    path(f"{of}/agents", AgentViewSet.as_view({"get": "list", "post": "create"})),
    path(f"{of}/heartbeats", AgentViewSet.as_view({"post": "heartbeats"})),
    path(agent, AgentViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"})),
    path(f"{agent}/handlers", AgentViewSet.as_view({"get": "handlers"})),
    path(f"{agent}/tools", AgentViewSet.as_view({"post": "read_tools"})),
    path(f"{agent}/hello", AgentViewSet.as_view({"post": "hello"})),
    path(f"{agent}/token", AgentViewSet.as_view({"post": "rotate"})),
    path(f"{agent}/heartbeat", AgentViewSet.as_view({"post": "heartbeat"})),
    path(f"{agent}/tasks/claim", AgentViewSet.as_view({"post": "claim"})),
    path(f"{agent}/tasks/claim/batch", AgentTaskViewSet.as_view({"post": "claim"})),
    path(f"{agent}/tasks/complete/batch", AgentTaskViewSet.as_view({"post": "complete"})),
    path(f"{agent}/inbox", AgentViewSet.as_view({"get": "inbox"})),
    path(f"{agent}/inbox/ack", AgentViewSet.as_view({"post": "acknowledge"})),
    path(f"{of}/tasks", TaskViewSet.as_view({"get": "list", "post": "create"})),
    path(f"{of}/tasks/batch", TaskViewSet.as_view({"post": "batch"})),
    path(task, TaskViewSet.as_view({"get": "retrieve"})),
    path(f"{task}/cancel", TaskViewSet.as_view({"post": "cancel"})),
    path(f"{task}/retry", TaskViewSet.as_view({"post": "retry"})),
    path(f"{task}/extend", TaskViewSet.as_view({"post": "extend"})),
    path(f"{task}/complete", TaskViewSet.as_view({"post": "complete"})),
    path(f"{task}/fail", TaskViewSet.as_view({"post": "fail"})),
    path(f"{of}/messages", MessageViewSet.as_view({"get": "list", "post": "create"})),
    path(f"{of}/messages/batch", MessageViewSet.as_view({"post": "batch"})),
    path(f"{of}/messages/accounting", MessageViewSet.as_view({"get": "accounting"})),
    path(f"{one}/memory", NamespaceViewSet.as_view({"get": "list"})),
    path(space, NamespaceViewSet.as_view({"get": "entries", "put": "update", "delete": "destroy"})),
    path(f"{space}/search", NamespaceViewSet.as_view({"post": "search"})),
    path(entry, EntryViewSet.as_view({"get": "retrieve", "put": "update", "delete": "destroy"})),
    path(f"{entry}/versions", EntryViewSet.as_view({"get": "versions"})),
    path(f"{of}/dead-letters", DeadLetterViewSet.as_view({"get": "list"})),
    path(f"{of}/dead-letters/replay", DeadLetterViewSet.as_view({"post": "replay_all"})),
    path("dead-letters/<uuid:pk>/replay", DeadLetterViewSet.as_view({"post": "replay"})),
]
