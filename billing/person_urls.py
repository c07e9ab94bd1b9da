"""Pages of a person, outside any account."""

from django.contrib.auth import views as auth_views
from django.urls import path

from billing.person_forms import ResetForm
from billing.views import sign_in

urlpatterns = [
    path("sign-in/", sign_in.SignIn.as_view(), name="login"),
    path("sign-in/<str:uidb64>/<str:token>/", sign_in.sign_in_by_link, name="sign-in"),
    path("sign-out/", auth_views.LogoutView.as_view(), name="logout"),
    path("password-reset/", auth_views.PasswordResetView.as_view(form_class=ResetForm), name="password_reset"),
    path("password-reset/sent/", auth_views.PasswordResetDoneView.as_view(), name="password_reset_done"),
    path(
        "password-reset/<str:uidb64>/<str:token>/",
        auth_views.PasswordResetConfirmView.as_view(),
        name="password_reset_confirm",
    ),
    path("password-reset/done/", auth_views.PasswordResetCompleteView.as_view(), name="password_reset_complete"),
    path("invitations/<str:token>/", sign_in.invitation, name="invitation"),
    path("me/", sign_in.me, name="me"),
]
