"""An entry with an embedding is of its namespace's dimension: a foreign key over both columns."""

from django.db import migrations

FORWARDS = """
alter table federation_memorynamespace add constraint namespace_and_its_dimension unique (id, dimension);
alter table federation_memoryentry add constraint an_embedding_is_of_its_namespaces_dimension
    foreign key (namespace_id, dimension) references federation_memorynamespace (id, dimension)
    on delete cascade deferrable initially deferred;
"""
BACKWARDS = """
alter table federation_memoryentry drop constraint an_embedding_is_of_its_namespaces_dimension;
alter table federation_memorynamespace drop constraint namespace_and_its_dimension;
"""


class Migration(migrations.Migration):
    dependencies = [("federation", "0014_add_shared_memory")]
    operations = [migrations.RunSQL(FORWARDS, reverse_sql=BACKWARDS)]
