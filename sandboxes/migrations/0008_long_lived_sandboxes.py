"""Long-lived sandboxes: a customer's own, paid by the second for all their life."""

import datetime
import django.db.models.deletion
import django.db.models.expressions
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0006_usage_functions'),
        ('sandboxes', '0007_builds'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Sandbox',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('language', models.CharField(choices=[('python', 'Python'), ('node', 'Node')], max_length=10)),
                ('limits', models.JSONField(default=dict)),
                ('network', models.BooleanField(default=False)),
                ('env', models.JSONField(default=dict)),
                ('metadata', models.JSONField(default=dict)),
                ('state', models.CharField(choices=[('creating', 'Creating'), ('ready', 'Ready'), ('failed', 'Failed'), ('gone', 'Gone')], default='creating', max_length=10)),
                ('node', models.CharField(blank=True, max_length=120)),
                ('runtime', models.CharField(blank=True, max_length=40)),
                ('error', models.TextField(blank=True)),
                ('ttl_seconds', models.FloatField(default=300)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('opened_at', models.DateTimeField(blank=True, null=True)),
                ('expires_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('claimed_by', models.CharField(blank=True, max_length=80)),
                ('lease_expires_at', models.DateTimeField(blank=True, null=True)),
                ('tries', models.PositiveSmallIntegerField(default=0)),
                ('refusals', models.JSONField(default=dict)),
                ('heard_at', models.DateTimeField(blank=True, null=True)),
                ('unheard', models.PositiveIntegerField(default=0)),
                ('window', models.PositiveIntegerField(default=0)),
                ('charged_until', models.DateTimeField()),
                ('held_until', models.DateTimeField()),
                ('cost_ucr', models.BigIntegerField(default=0)),
                ('account', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='billing.account')),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('template', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='sandboxes.template')),
            ],
        ),
        migrations.AddIndex(
            model_name='sandbox',
            index=models.Index(fields=['account', '-created_at', '-id'], name='sandbox_newest'),
        ),
        migrations.AddIndex(
            model_name='sandbox',
            index=models.Index(condition=models.Q(('state', 'ready')), fields=['node'], name='sandbox_ready_on_node'),
        ),
        migrations.AddIndex(
            model_name='sandbox',
            index=models.Index(condition=models.Q(('ended_at__isnull', True)), fields=['expires_at'], name='sandbox_expiry'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['creating', 'ready', 'failed', 'gone'])), name='sandbox_state'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('ended_at__isnull', True), ('state__in', ['creating', 'ready'])), models.Q(('ended_at__isnull', False), ('state__in', ['failed', 'gone'])), _connector='OR'), name='sandbox_ended_has_an_end'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'ready'), _negated=True), models.Q(('heard_at__isnull', False), ('opened_at__isnull', False), models.Q(('node', ''), _negated=True), models.Q(('runtime', ''), _negated=True)), _connector='OR'), name='sandbox_ready_is_somewhere'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'creating'), _negated=True), models.Q(('cost_ucr', 0), ('opened_at__isnull', True)), _connector='OR'), name='sandbox_creating_is_not_open'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(('state', 'creating'), ('lease_expires_at__isnull', True), _connector='OR'), name='sandbox_lease_is_for_opening'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(('language__in', ['python', 'node'])), name='sandbox_language'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['failed', 'gone']), ('template__isnull', False), _connector='OR'), name='sandbox_open_has_a_template'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'failed'), _negated=True), models.Q(('error', ''), _negated=True), _connector='OR'), name='sandbox_failed_says_why'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(('expires_at__gt', models.F('created_at')), ('expires_at__lte', django.db.models.expressions.CombinedExpression(models.F('created_at'), '+', models.Value(datetime.timedelta(days=1))))), name='sandbox_lives_a_day_at_most'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(('ttl_seconds__gt', 0), ('ttl_seconds__lte', 86400)), name='sandbox_ttl'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(('held_until__gt', models.F('charged_until'))), name='sandbox_window_is_ahead'),
        ),
        migrations.AddConstraint(
            model_name='sandbox',
            constraint=models.CheckConstraint(condition=models.Q(('cost_ucr__gte', 0)), name='sandbox_cost_is_not_negative'),
        ),
    ]
