import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sandboxes', '0005_scale_the_python_pool'),
    ]

    operations = [
        migrations.AlterField(
            model_name='execution',
            name='template',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='sandboxes.template'),
        ),
    ]
