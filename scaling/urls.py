"""Pages, mounted under /o/<account>/."""

from django.urls import path

from scaling.views import balancers, groups, nodes

app_name = "scaling"
urlpatterns = [
    path("nodes/", nodes.node_list, name="nodes"),
    path("nodes/new/", nodes.node_new, name="node-new"),
    path("nodes/<uuid:pk>/", nodes.node_detail, name="node"),
    path("nodes/<uuid:pk>/drain/", nodes.node_drain, name="node-drain"),
    path("nodes/<uuid:pk>/resume/", nodes.node_resume, name="node-resume"),
    path("nodes/<uuid:pk>/remove/", nodes.node_remove, name="node-remove"),
    path("scaling/", groups.group_list, name="groups"),
    path("scaling/new/", groups.group_new, name="group-new"),
    path("scaling/decisions/", groups.decision_list, name="decisions"),
    path("scaling/groups/<uuid:pk>/", groups.group_detail, name="group"),
    path("scaling/groups/<uuid:pk>/edit/", groups.group_edit, name="group-edit"),
    path("scaling/groups/<uuid:pk>/pause/", groups.group_pause, name="group-pause"),
    path("scaling/groups/<uuid:pk>/resume/", groups.group_resume, name="group-resume"),
    path("scaling/groups/<uuid:pk>/evaluate/", groups.group_evaluate, name="group-evaluate"),
    path("scaling/groups/<uuid:pk>/remove/", groups.group_remove, name="group-remove"),
    path("load-balancer/", balancers.balancer_list, name="balancers"),
    path("load-balancer/new/", balancers.balancer_new, name="balancer-new"),
    path("load-balancer/<uuid:pk>/remove/", balancers.balancer_remove, name="balancer-remove"),
]
