from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("federation", "0019_doubt_agents_whose_lease_ran_out")]
    operations = [migrations.AddField("task", "api_key", models.UUIDField(null=True, blank=True))]
