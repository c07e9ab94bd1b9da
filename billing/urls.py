"""Pages, mounted under /o/<account>/."""

from django.urls import path

from billing.views import members

app_name = "billing"
# The account itself: members, keys, settings.
account_pages = [
    path("settings/members/", members.members, name="members"),
    path("settings/members/<uuid:pk>/role/", members.member_role, name="member-role"),
    path("settings/members/<uuid:pk>/remove/", members.member_remove, name="member-remove"),
    path("settings/invitations/<uuid:pk>/revoke/", members.invitation_revoke, name="invitation-revoke"),
    path("settings/account/", members.account_settings, name="account"),
    path("developers/api-keys/", members.api_keys, name="api-keys"),
    path("developers/api-keys/<uuid:pk>/revoke/", members.api_key_revoke, name="api-key-revoke"),
]
urlpatterns = [*account_pages]
