"""Cards that Stripe keeps: the pages they are given on, who accounts are there, and what is shown of them."""

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0034_lighter_spends'),
    ]

    operations = [
        migrations.CreateModel(
            name='CardSetup',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('created', 'Created'), ('open', 'Open'), ('kept', 'Kept'), ('closed', 'Closed')], default='created', max_length=8)),
                ('params', models.JSONField(blank=True, null=True)),
                ('session_id', models.CharField(blank=True, max_length=200, null=True, unique=True)),
                ('action_url', models.CharField(blank=True, max_length=2000)),
                ('label', models.CharField(blank=True, max_length=80)),
                ('is_default', models.BooleanField(default=False)),
                ('failure_message', models.CharField(blank=True, max_length=300)),
                ('key', models.CharField(max_length=300)),
                ('request_hash', models.CharField(max_length=64)),
                ('actor', models.CharField(blank=True, max_length=80)),
                ('request_id', models.CharField(blank=True, max_length=128)),
                ('ask_at', models.DateTimeField(blank=True, null=True)),
                ('asked_times', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='StripeCustomer',
            fields=[
                ('account', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='stripe_customer', serialize=False, to='billing.account')),
                ('customer_id', models.CharField(max_length=100, unique=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.AddField(
            model_name='paymentmethod',
            name='brand',
            field=models.CharField(blank=True, db_default='', max_length=30),
        ),
        migrations.AddField(
            model_name='paymentmethod',
            name='exp_month',
            field=models.PositiveSmallIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='paymentmethod',
            name='exp_year',
            field=models.PositiveSmallIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='paymentmethod',
            name='forget_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='paymentmethod',
            name='last4',
            field=models.CharField(blank=True, db_default='', max_length=4),
        ),
        migrations.AddIndex(
            model_name='paymentmethod',
            index=models.Index(condition=models.Q(('forget_at__isnull', False)), fields=['forget_at'], name='payment_method_to_forget'),
        ),
        migrations.AddConstraint(
            model_name='paymentmethod',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('brand', ''), ('exp_month', None), ('exp_year', None), ('last4', '')), models.Q(models.Q(('brand', ''), _negated=True), ('exp_month__range', (1, 12)), ('exp_year__range', (2000, 2199)), ('last4__regex', '^[0-9]{4}$')), _connector='OR'), name='payment_method_is_a_whole_card'),
        ),
        migrations.AddConstraint(
            model_name='paymentmethod',
            constraint=models.CheckConstraint(condition=models.Q(('forget_at', None), ('removed_at__isnull', False), _connector='OR'), name='only_removed_methods_are_forgotten'),
        ),
        migrations.AddField(
            model_name='cardsetup',
            name='account',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='card_setups', to='billing.account'),
        ),
        migrations.AddField(
            model_name='cardsetup',
            name='method',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='card_setup', to='billing.paymentmethod'),
        ),
        migrations.AddIndex(
            model_name='cardsetup',
            index=models.Index(fields=['account', '-created_at', '-id'], name='card_setup_newest'),
        ),
        migrations.AddIndex(
            model_name='cardsetup',
            index=models.Index(condition=models.Q(('ask_at__isnull', False)), fields=['ask_at'], name='card_setup_to_ask_about'),
        ),
        migrations.AddConstraint(
            model_name='cardsetup',
            constraint=models.UniqueConstraint(fields=('account', 'key'), name='one_card_setup_per_key'),
        ),
        migrations.AddConstraint(
            model_name='cardsetup',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['created', 'open', 'kept', 'closed'])), name='card_setup_state'),
        ),
        migrations.AddConstraint(
            model_name='cardsetup',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('method__isnull', False), ('state', 'kept')), models.Q(models.Q(('state', 'kept'), _negated=True), ('method', None)), _connector='OR'), name='card_setup_has_its_method_iff_kept'),
        ),
        migrations.AddConstraint(
            model_name='cardsetup',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('ask_at', None), ('ended_at__isnull', False), ('state__in', ['kept', 'closed'])), models.Q(('ask_at__isnull', False), ('ended_at', None), ('state__in', ['created', 'open'])), _connector='OR'), name='card_setup_is_asked_about_until_it_ends'),
        ),
        migrations.AddConstraint(
            model_name='cardsetup',
            constraint=models.CheckConstraint(condition=models.Q(('state', 'created'), ('state', 'closed'), ('session_id__isnull', False), _connector='OR'), name='card_setup_has_its_page'),
        ),
    ]
