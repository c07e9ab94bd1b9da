from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sandboxes", "0013_budgets_of_executions")]
    operations = [migrations.AddField("sandbox", "api_key", models.UUIDField(null=True, blank=True))]
