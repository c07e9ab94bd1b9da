from django.db import migrations

# Looked at when the transaction ends: the version is raised before its row is written.
GUARD = """
create function federation_check_version() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and new.topology_version not in (old.topology_version, old.topology_version + 1) then
        raise exception 'the topology of federation % went from version % to %', new.id, old.topology_version, new.topology_version
            using errcode = 'check_violation';
    end if;
    if exists (select from federation_federation where id = new.id) and not exists (
        select from federation_topologyversion where federation_id = new.id and version = new.topology_version
    ) then
        raise exception 'version % of the topology of federation % is not stored', new.topology_version, new.id
            using errcode = 'check_violation';
    end if;
    return null;
end $$;
create constraint trigger every_version_is_stored after insert or update of topology_version on federation_federation
    deferrable initially deferred for each row execute function federation_check_version();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('federation', '0003_fill_topology_versions'),
    ]

    operations = [
        migrations.RunSQL(GUARD, reverse_sql="drop function federation_check_version cascade"),
    ]
