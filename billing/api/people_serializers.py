"""Members, invitations and API keys, as the API takes and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing import keys
from billing.models import ApiKey, Invitation, Membership, Role

KEY_STATES = ("active", "expired", "revoked")


class Nothing(serializers.Serializer[Any]):
    """The request of an act without a body."""


class KeyRequest(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=120)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=keys.SCOPES), min_length=1, max_length=20)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)

    def validate_expires_at(self, value: datetime | None) -> datetime | None:
        if value is not None and value <= timezone.now():
            raise serializers.ValidationError("Must be in the future.")
        return value


class KeyAnswer(serializers.ModelSerializer[ApiKey]):
    state = serializers.SerializerMethodField()
    scopes = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = ApiKey
        fields = [
            "id",
            "name",
            "hint",
            "scopes",
            "is_staff",
            "state",
            "rate_limit_per_minute",
            "created_at",
            "expires_at",
            "revoked_at",
            "last_used_at",
        ]

    @extend_schema_field(serializers.ChoiceField(choices=KEY_STATES))
    def get_state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return "revoked"
        return "expired" if key.expires_at and key.expires_at <= timezone.now() else "active"


class NewKeyAnswer(KeyAnswer):
    key = serializers.CharField(
        allow_null=True, help_text="The secret: in this answer only, and null when it is replayed."
    )

    class Meta(KeyAnswer.Meta):
        fields = [*KeyAnswer.Meta.fields, "key"]


class MemberRequest(serializers.Serializer[Any]):
    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(choices=Role.choices)


class RoleRequest(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=Role.choices)


class MemberAnswer(serializers.Serializer[Membership]):
    """A member, or somebody invited by mail, who is listed under invitations until the link is followed."""

    id = serializers.UUIDField()
    email = serializers.EmailField()
    name = serializers.CharField(allow_blank=True)
    role = serializers.ChoiceField(choices=Role.choices)
    state = serializers.ChoiceField(choices=["active", "invited", "expired"])
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True, help_text="When the invitation ends.")

    def to_representation(self, instance: Membership | Invitation) -> dict[str, Any]:
        shown = shown_invitation(instance) if isinstance(instance, Invitation) else shown_member(instance)
        return dict(super().to_representation(shown))


def shown_member(membership: Membership) -> dict[str, Any]:
    return {
        "id": membership.pk,
        "email": membership.user.email,
        "name": membership.user.name,
        "role": membership.role,
        "state": "active",
        "created_at": membership.created_at,
        "expires_at": None,
    }


def shown_invitation(invitation: Invitation) -> dict[str, Any]:
    return {
        "id": invitation.pk,
        "email": invitation.email,
        "name": "",
        "role": invitation.role,
        "state": "invited" if invitation.expires_at > timezone.now() else "expired",
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
    }


class WhenQuery(serializers.Serializer[Any]):
    """Filters of the lists here."""

    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)

    def conditions(self) -> dict[str, Any]:
        """Raises ValidationError."""
        self.is_valid(raise_exception=True)
        lookups = {"created_after": "created_at__gt", "created_before": "created_at__lt"}
        return {lookups[name]: value for name, value in self.validated_data.items() if name in lookups}


class KeyQuery(WhenQuery):
    state = serializers.ChoiceField(choices=KEY_STATES, required=False)


class MemberQuery(WhenQuery):
    role = serializers.ChoiceField(choices=Role.choices, required=False)
    email = serializers.EmailField(required=False)
