"""Both tasks of a dependency are of its federation: foreign keys over both columns, which Django cannot say."""

from django.db import migrations

FORWARDS = """
alter table federation_task add constraint task_and_its_federation unique (id, federation_id);
alter table federation_dependency
    add constraint dependency_task_is_of_the_federation
        foreign key (task_id, federation_id) references federation_task (id, federation_id)
        on delete cascade deferrable initially deferred,
    add constraint dependency_needs_is_of_the_federation
        foreign key (needs_id, federation_id) references federation_task (id, federation_id)
        on delete cascade deferrable initially deferred;
"""
BACKWARDS = """
alter table federation_dependency
    drop constraint dependency_task_is_of_the_federation,
    drop constraint dependency_needs_is_of_the_federation;
alter table federation_task drop constraint task_and_its_federation;
"""


class Migration(migrations.Migration):
    dependencies = [("federation", "0012_add_dependencies_and_progress_notes")]
    operations = [migrations.RunSQL(FORWARDS, reverse_sql=BACKWARDS)]
