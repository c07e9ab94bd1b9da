"""What a schema is, told by PostgreSQL, one line for each thing, so that two schemas can be compared."""

from __future__ import annotations

import re

from django.db import connection

# Of columns not the order, which a column that went and came back has lost.
CATALOG = """
select 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
       || case when a.attnotnull then ' not null' else '' end || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
       || a.attgenerated::text || a.attidentity::text
  from pg_attribute a join pg_class c on c.oid = a.attrelid
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
union all
select 'constraint ' || conrelid::regclass || '.' || conname || ' ' || pg_get_constraintdef(oid) || convalidated
  from pg_constraint where connamespace = 'public'::regnamespace and conrelid <> 0 and contype <> 'n'
union all
select 'index ' || i.indrelid::regclass || '.' || c.relname || ' ' || pg_get_indexdef(c.oid)
  from pg_class c join pg_index i on i.indexrelid = c.oid where c.relnamespace = 'public'::regnamespace
union all
select 'trigger ' || tgrelid::regclass || '.' || tgname || ' ' || pg_get_triggerdef(oid) || tgenabled::text
  from pg_trigger where not tgisinternal
union all
select 'function ' || p.oid::regprocedure || ' ' || pg_get_functiondef(p.oid)
  from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'
   and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
union all
select 'table ' || relname || ' ' || coalesce(reloptions::text, '')
  from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
"""
# Django names these three by itself, and otherwise when it makes them anew.
NAMED_BY_DJANGO = re.compile(r"(_[0-9a-f]{8})?_(uniq|key|check)\b")


def of(app: str) -> set[str]:
    """Every table of an app with all that belongs to it, and every function."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"select line from ({CATALOG}) catalog (line) where split_part(line, ' ', 2) like %s", [f"{app}\\_%"]
        )
        return {NAMED_BY_DJANGO.sub("", line) for (line,) in cursor.fetchall()}
