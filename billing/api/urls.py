"""API endpoints, mounted under /api/v1/."""

from django.urls import path

from billing.api import people

# Members and keys.
people_endpoints = [
    path("api-keys", people.Keys.as_view({"get": "list", "post": "create"}), name="api-api-keys"),
    path("api-keys/<str:pk>", people.Keys.as_view({"get": "retrieve", "delete": "destroy"}), name="api-api-key"),
    path("members", people.Members.as_view({"get": "list", "post": "create"}), name="api-members"),
    path(
        "members/<str:pk>",
        people.Members.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        name="api-member",
    ),
    path("invitations", people.Invitations.as_view({"get": "list"}), name="api-invitations"),
    path("invitations/<str:pk>", people.Invitations.as_view({"delete": "destroy"}), name="api-invitation"),
]
urlpatterns = [*people_endpoints]
