"""Executions may run in a long-lived sandbox: one at a time, and for no more than the sandbox itself costs."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sandboxes', '0008_long_lived_sandboxes'),
    ]

    operations = [
        migrations.AddField(
            model_name='execution',
            name='kept_sandbox',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='executions', to='sandboxes.sandbox'),
        ),
        migrations.AddIndex(
            model_name='execution',
            index=models.Index(condition=models.Q(('kept_sandbox__isnull', False)), fields=['kept_sandbox', '-created_at', '-id'], name='execution_newest_in_sandbox'),
        ),
        migrations.AddIndex(
            model_name='execution',
            index=models.Index(condition=models.Q(('kept_sandbox__isnull', False), ('state', 'queued')), fields=['kept_sandbox', 'turn', 'id'], name='execution_next_in_sandbox'),
        ),
        migrations.AddConstraint(
            model_name='execution',
            constraint=models.UniqueConstraint(condition=models.Q(('lease_expires_at__isnull', False)), fields=('kept_sandbox',), name='one_execution_at_once_in_a_sandbox'),
        ),
        migrations.AddConstraint(
            model_name='execution',
            constraint=models.CheckConstraint(condition=models.Q(('kept_sandbox__isnull', True), models.Q(('pool__isnull', True), models.Q(('cost_ucr', 0), ('network', True), _connector='OR')), _connector='OR'), name='execution_in_a_sandbox_is_paid_by_it'),
        ),
    ]
