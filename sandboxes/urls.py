"""Pages, mounted under /o/<account>/."""

from django.urls import URLPattern

app_name = "sandboxes"
urlpatterns: list[URLPattern] = []
