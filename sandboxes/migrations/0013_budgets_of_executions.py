"""What an execution holds counts on budgets; see sql/0013_budgets_of_executions.sql."""

import re
from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent / "sql"


def _before() -> str:
    text = (SQL / "0012_execution_functions.sql").read_text()
    found = re.search(r"^create function sandboxes_submit\(.*?^end \$\$;$", text, re.S | re.M)
    assert found is not None
    return found[0]


class Migration(migrations.Migration):
    dependencies = [("sandboxes", "0012_execution_functions"), ("billing", "0014_budget_functions")]
    operations = [
        migrations.RunSQL(
            "drop function sandboxes_submit;\n" + (SQL / "0013_budgets_of_executions.sql").read_text(),
            reverse_sql="drop function sandboxes_submit;\n" + _before(),
        )
    ]
