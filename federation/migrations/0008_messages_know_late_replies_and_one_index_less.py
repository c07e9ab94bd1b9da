import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('federation', '0007_add_relayed_delivery'),
    ]

    operations = [
        migrations.AddField(
            model_name='message',
            name='late_reply',
            field=models.BooleanField(default=False),
        ),
        # The index of the foreign key: messages_newest_first begins with the federation too.
        migrations.AlterField(
            model_name='message',
            name='federation',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='federation.federation'),
        ),
    ]
