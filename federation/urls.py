"""Pages, mounted under /o/<account>/."""

from django.urls import path

from federation import addresses  # noqa: F401 - the converters of the addresses below
from federation.views import agents, federations, remembered, tasks, traffic

app_name = "federation"
one = "federations/<uuid:pk>"
urlpatterns = [
    path("federations/", federations.federation_list, name="federations"),
    path("federations/new/", federations.federation_new, name="new"),
    path(f"{one}/", federations.topology, name="federation"),
    path(f"{one}/facts/", federations.facts, name="facts"),
    path(f"{one}/graph.json", federations.graph, name="graph"),
    path(f"{one}/agents/", agents.agent_list, name="agents"),
    path(f"{one}/agents/new/", agents.agent_new, name="agent-new"),
    path(f"{one}/tasks/", tasks.task_list, name="tasks"),
    path(f"{one}/tasks/new/", tasks.task_new, name="task-new"),
    path(f"{one}/results/", tasks.result_table, name="results"),
    path(f"{one}/strategies/new/", tasks.strategy_new, name="strategy-new"),
    path(f"{one}/memory/", remembered.memory, name="memory"),
    path(f"{one}/memory/<namespace:namespace>/<key:key>/", remembered.entry, name="memory-entry"),
    path(f"{one}/messages/", traffic.message_list, name="messages"),
    path(f"{one}/agents/names/", traffic.agent_names, name="agent-names"),
    path(f"{one}/dead-letters/replay/", traffic.letters_replay, name="letters-replay"),
    path(f"{one}/events/", federations.events, name="events"),
    path(f"{one}/versions/", federations.versions, name="versions"),
    path(f"{one}/settings/", federations.settings, name="settings"),
    path(f"{one}/delete/", federations.federation_delete, name="delete"),
    path("agents/<uuid:pk>/", agents.agent_detail, name="agent"),
    path("agents/<uuid:pk>/row/", agents.agent_row, name="agent-row"),
    path("agents/<uuid:pk>/edit/", agents.agent_edit, name="agent-edit"),
    path("agents/<uuid:pk>/drain/", agents.agent_drain, name="agent-drain"),
    path("agents/<uuid:pk>/handler/", agents.agent_handler, name="agent-handler"),
    path("agents/<uuid:pk>/server/", agents.agent_server, name="agent-server"),
    path("agents/<uuid:pk>/tools/", agents.agent_tools, name="agent-tools"),
    path("agents/<uuid:pk>/token/", agents.agent_token, name="agent-token"),
    path("agents/<uuid:pk>/remove/", agents.agent_remove, name="agent-remove"),
    path("tasks/<uuid:pk>/", tasks.task_detail, name="task"),
    path("tasks/<uuid:pk>/row/", tasks.task_row, name="task-row"),
    path("tasks/<uuid:pk>/cancel/", tasks.task_cancel, name="task-cancel"),
    path("tasks/<uuid:pk>/retry/", tasks.task_retry, name="task-retry"),
    path("dead-letters/<uuid:pk>/replay/", traffic.letter_replay, name="letter-replay"),
]
