from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sandboxes", "0009_executions_in_sandboxes")]

    operations = [
        migrations.AddField(
            model_name="execution",
            name="samples",
            field=models.JSONField(default=list),
        ),
    ]
