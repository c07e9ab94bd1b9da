"""The periodic background tasks: each app declares its own in `<app>/schedule.py`; here they meet."""

from billing.schedule import SCHEDULE as BILLING
from federation.schedule import SCHEDULE as FEDERATION
from ntd_site.schedule import SCHEDULE as SITE
from sandboxes.schedule import SCHEDULE as SANDBOXES
from scaling.schedule import SCHEDULE as SCALING


def merged() -> dict[str, dict[str, object]]:
    return {**SITE, **BILLING, **SCALING, **SANDBOXES, **FEDERATION}
