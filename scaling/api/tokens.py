"""Who a remote node is: `Authorization: Bearer ntn_...`, good only for its own reports."""

from __future__ import annotations

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from scaling import nodes
from scaling.models import Node


class NodePrincipal:
    """A node acting: it may report about itself, and nothing else."""

    is_authenticated = True
    is_active = True
    is_anonymous = False
    is_staff = False

    def __init__(self, node: Node) -> None:
        self.node = node
        self.pk = node.pk

    def __str__(self) -> str:
        return f"node {self.node.name}"

    def has_scope(self, scope: str) -> bool:
        """The doors that take a node token check themselves that it is the node's own."""
        return scope == "scaling:write"


class NodeTokenAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[NodePrincipal, str] | None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.startswith(nodes.TOKEN_PREFIX):
            return None
        node = nodes.of_token(token.strip())
        if node is None:
            raise AuthenticationFailed("This node token is unknown or was renewed.")
        return NodePrincipal(node), token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="ntd"'


class NodeTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = NodeTokenAuthentication
    name = "nodeToken"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A node's token: `Authorization: Bearer ntn_...`"}
