"""API endpoints, mounted under /api/v1/."""

from rest_framework.routers import SimpleRouter

from scaling.api.balancers import BalancerViewSet
from scaling.api.groups import GroupViewSet
from scaling.api.nodes import NodeViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("nodes", NodeViewSet, basename="node")
router.register("scaling-groups", GroupViewSet, basename="scaling-group")
router.register("balancers", BalancerViewSet, basename="balancer")
urlpatterns = router.urls
