"""Pages, mounted under /o/<account>/."""

from django.urls import path

from sandboxes import template_views, views

app_name = "sandboxes"
urlpatterns = [
    path("executions/", views.execution_list, name="executions"),
    path("executions/new/", views.execution_new, name="execution-new"),
    path("executions/<uuid:pk>/", views.execution_detail, name="execution"),
    path("executions/<uuid:pk>/row/", views.execution_row, name="execution-row"),
    path("executions/<uuid:pk>/cancel/", views.execution_cancel, name="execution-cancel"),
    path("executions/<uuid:pk>/rerun/", views.execution_rerun, name="execution-rerun"),
    path("sandboxes/", views.sandbox_list, name="sandboxes"),
    path("sandboxes/engine/", views.engine_page, name="engine"),
    path("pools/", views.pool_list, name="pools"),
    path("pools/new/", views.pool_new, name="pool-new"),
    path("pools/<uuid:pk>/", views.pool_edit, name="pool"),
    path("pools/<uuid:pk>/close/", views.pool_close, name="pool-close"),
    path("templates/", template_views.template_list, name="templates"),
    path("templates/new/", template_views.template_new, name="template-new"),
    path("templates/<uuid:pk>/", template_views.template_detail, name="template"),
    path("templates/<uuid:pk>/delete/", template_views.template_delete, name="template-delete"),
    path("templates/<uuid:pk>/rebuild/", template_views.template_rebuild, name="template-rebuild"),
]
