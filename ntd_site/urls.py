"""Every address of the product. Pages live under /o/<account>/, the API under /api/v1/."""

from django.contrib import admin
from django.urls import include, path, register_converter

from ntd_site import clock_door, configuration, docs, health, metrics, schema, views


class AccountConverter:
    """`{% url 'x' account %}` takes an Account or its slug; middleware turns the slug into the Account."""

    regex = "[-a-z0-9_]+"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: object) -> str:
        return str(getattr(value, "slug", value))


register_converter(AccountConverter, "account")

account_pages = [
    path("", views.overview, name="overview"),
    path("", include("federation.urls")),
    path("", include("sandboxes.urls")),
    path("", include("billing.urls")),
    path("", include("scaling.urls")),
]
api = [
    path("", include("federation.api.urls")),
    path("", include("sandboxes.api.urls")),
    path("", include("billing.api.urls")),
    path("", include("scaling.api.urls")),
    path("schema", schema.schema, name="api-schema"),
    path("test/clock", clock_door.TestClock.as_view(), name="test-clock"),
]
urlpatterns = [
    path("", views.home, name="home"),
    path("o/<account:account>/", include(account_pages)),
    path("", include("billing.person_urls")),
    path("api/v1/", include(api)),
    path("api/docs/", docs.api_docs, name="api-docs"),
    path("staff/settings/", configuration.staff_settings, name="staff-settings"),
    path("admin/", admin.site.urls),
    path("health", health.health, name="health"),
    path("metrics", metrics.metrics, name="metrics"),
]
handler400 = "ntd_site.errors.bad_request"
handler403 = "ntd_site.errors.permission_denied"
handler404 = "ntd_site.errors.page_not_found"
handler500 = "ntd_site.errors.server_error"
