import django.db.models.deletion
from django.db import migrations, models

# Taken back, an execution whose template is gone names the built-in one of its language.
BACKWARDS = """
set constraints all immediate;
update sandboxes_execution e set template_id = (
    select t.id from sandboxes_template t where t.account_id is null and t.language = e.language
     order by t.created_at, t.id limit 1)
 where template_id is null;
"""


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
        migrations.RunSQL(migrations.RunSQL.noop, reverse_sql=BACKWARDS),
    ]
