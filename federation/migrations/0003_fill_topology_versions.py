from django.db import migrations

# The wiring of each federation as it is: the first version that can be told.
FILL = """
insert into federation_topologyversion (id, federation_id, version, shape, members, epoch, reason, created_at)
select gen_random_uuid(), f.id, f.topology_version,
    case when f.topology <> 'adaptive' then f.topology when n <= 10 then 'mesh' when n <= 50 then 'star' else 'hierarchical' end,
    n, f.epoch, 'As it was when versions began to be kept.', now()
from federation_federation f cross join lateral (
    select count(*) as n from federation_agent a
    where a.federation_id = f.id and a.left_at is null and a.availability <> 'lost'
) linked
where not exists (
    select from federation_topologyversion v where v.federation_id = f.id and v.version = f.topology_version
)
"""


class Migration(migrations.Migration):

    dependencies = [
        ('federation', '0002_keep_topology_versions'),
    ]

    operations = [
        migrations.RunSQL(FILL, reverse_sql=migrations.RunSQL.noop),
    ]
