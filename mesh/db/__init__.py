"""PostgreSQL: the truth.  Engine, unit of work, tables, migrations."""
