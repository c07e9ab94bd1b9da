"""Signing in and out, one-time links, invitations, and a person's own profile."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from billing import invitations, lockout, sign_in
from billing.models import User
from billing.person_forms import NewMemberForm, ProfileForm, SignInForm

BACKEND = "django.contrib.auth.backends.ModelBackend"
YEAR_SECONDS = 365 * 86_400


class SignIn(auth_views.LoginView):
    form_class = SignInForm
    template_name = "registration/login.html"
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        form = self.get_form()
        try:
            return self.form_valid(form) if form.is_valid() else self.form_invalid(form)
        except lockout.TooManyFailures as refused:
            form.add_error(None, str(refused))
            response = self.form_invalid(form)
            response.status_code = 429
            response["Retry-After"] = str(refused.retry_after)
            return response

    def form_invalid(self, form: SignInForm) -> HttpResponse:
        response = super().form_invalid(form)
        response.status_code = 422
        return response


@never_cache
@require_safe
def sign_in_by_link(request: HttpRequest, uidb64: str, token: str) -> HttpResponse:
    """One use: whoever opens the link is signed in, and the link is dead."""
    user = sign_in.redeem(uidb64=uidb64, token=token, now=timezone.now())
    if user is None:
        return render(request, "sign_in_link.html", status=410)
    login(request, user, backend=BACKEND)
    return redirect("home")


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Join as the person signed in, or make a login. The link proves the address it was sent to."""
    found = invitations.find(token, now=timezone.now())
    if found is None:
        return render(request, "invitation.html", {"invitation": None}, status=410)
    if request.user.is_authenticated:
        return _join(request, found)
    if User.objects.filter(email=found.email).exists():
        return redirect(f"{resolve_url('login')}?next={request.path}")
    form = NewMemberForm(request.POST or None, email=found.email)
    if request.method == "POST" and form.is_valid():
        said = {"name": form.cleaned_data["name"], "password": form.cleaned_data["password"]}
        user = invitations.accept_as_new(invitation=found, now=timezone.now(), **said)
        login(request, user, backend=BACKEND)
        return _welcome(request, found)
    return render(request, "invitation.html", {"invitation": found, "form": form}, status=422 if form.errors else 200)


def _join(request: HttpRequest, found: invitations.Invitation) -> HttpResponse:
    context = {"invitation": found, "form": None, "other": request.user.email != found.email}
    if request.method != "POST":
        return render(request, "invitation.html", context)
    if context["other"]:
        return render(request, "invitation.html", context, status=403)
    invitations.accept(invitation=found, user=request.user, now=timezone.now())
    return _welcome(request, found)


def _welcome(request: HttpRequest, found: invitations.Invitation) -> HttpResponse:
    messages.success(request, f"You are a member of {found.account.name} now.")
    return redirect("overview", found.account)


@login_required
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def me(request: HttpRequest) -> HttpResponse:
    """Name, time zone, theme and password of whoever is signed in."""
    changes_password = "new_password1" in request.POST
    profile = ProfileForm(
        request.POST if request.method == "POST" and not changes_password else None,
        instance=User.objects.get(pk=request.user.pk),
        initial={"theme": request.COOKIES.get("ntd_theme", "")},
    )
    password = _password_form(request, request.POST if changes_password else None)
    if changes_password and password.is_valid():
        update_session_auth_hash(request, password.save())
        messages.success(request, "Your password is changed.")
        return redirect("me")
    if request.method == "POST" and not changes_password and profile.is_valid():
        return _saved(request, profile)
    status = 422 if profile.errors or password.errors else 200
    return render(request, "me.html", {"profile": profile, "password": password}, status=status)


def _password_form(request: HttpRequest, said: Any) -> SetPasswordForm[User]:
    """Who has a password must know it; who came by a link sets the first one."""
    kind = PasswordChangeForm if request.user.has_usable_password() else SetPasswordForm
    form = kind(request.user, said)
    for field in form.fields.values():
        field.widget.attrs["class"] = "input"
        field.widget.attrs.pop("autofocus", None)
    return form


def _saved(request: HttpRequest, profile: ProfileForm) -> HttpResponse:
    profile.save()
    messages.success(request, "Your profile is saved.")
    response = redirect("me")
    theme = profile.cleaned_data["theme"]
    if theme:
        response.set_cookie("ntd_theme", theme, max_age=YEAR_SECONDS, samesite="Lax")
    else:
        response.delete_cookie("ntd_theme", samesite="Lax")
    return response
