"""Which API key had something used; see sql/0033_usage_keeps_its_key.sql. The old functions stay in 0014 and 0025."""

import re
from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).parent / "sql"
REPLACED = {"0025_spends_at_once.sql": "billing_hold", "0014_budget_functions.sql": "billing_keep_usage"}


def _before() -> str:
    """What puts the functions back as they were."""
    back = []
    for file, name in REPLACED.items():
        text = (SQL / file).read_text()
        found = re.search(rf"^create (?:or replace )?function ({name}\(.*?^end \$\$;)$", text, re.S | re.M)
        assert found is not None
        back.append(f"create or replace function {found[1]}")
    return "\n".join(back)


class Migration(migrations.Migration):
    dependencies = [("billing", "0032_stripe_sessions")]
    operations = [
        migrations.AddField("hold", "api_key", models.UUIDField(null=True, blank=True)),
        migrations.AddField("usagerecord", "api_key", models.UUIDField(null=True, blank=True)),
        migrations.RunSQL((SQL / "0033_usage_keeps_its_key.sql").read_text(), reverse_sql=_before()),
    ]
