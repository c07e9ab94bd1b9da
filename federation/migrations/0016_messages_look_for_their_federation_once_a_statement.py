import django.db.models.deletion
from django.db import migrations, models

# A foreign key looks once a row, which was a third of what a message in the history cost.
GUARD = """
create function federation_message_has_its_federation() returns trigger language plpgsql as $$
declare
    wanted uuid[];
    found_count integer;
begin
    select array_agg(distinct federation_id) into wanted from written;
    perform from federation_federation where id = any(wanted) for key share;
    get diagnostics found_count = row_count;
    if found_count < cardinality(wanted) then
        raise exception 'a message is of a federation that is not there' using errcode = 'foreign_key_violation';
    end if;
    return null;
end $$;
create trigger message_has_its_federation after insert on federation_message
    referencing new table as written for each statement execute function federation_message_has_its_federation();

create function federation_message_stays() returns trigger language plpgsql as $$
begin
    raise exception 'message % stays in its federation', old.id using errcode = 'restrict_violation';
end $$;
create trigger message_stays_in_its_federation before update of federation_id on federation_message
    for each row when (new.federation_id <> old.federation_id) execute function federation_message_stays();

-- Looked at when the transaction ends: Django deletes messages and federation one after the other.
create function federation_is_of_no_message() returns trigger language plpgsql as $$
begin
    if exists (select from federation_message where federation_id = old.id) then
        raise exception 'messages are of federation %', old.id using errcode = 'foreign_key_violation';
    end if;
    return null;
end $$;
create constraint trigger deleted_federation_has_no_messages after delete on federation_federation
    deferrable initially deferred for each row execute function federation_is_of_no_message();
"""
BACKWARDS = """
drop function federation_message_has_its_federation cascade;
drop function federation_message_stays cascade;
drop function federation_is_of_no_message cascade;
"""


class Migration(migrations.Migration):
    dependencies = [("federation", "0015_keep_embeddings_in_their_dimension")]

    operations = [
        migrations.AlterField(
            model_name="message",
            name="federation",
            field=models.ForeignKey(
                db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE,
                related_name="messages", to="federation.federation",
            ),
        ),
        migrations.RunSQL(GUARD, reverse_sql=BACKWARDS),
    ]  # fmt: skip
