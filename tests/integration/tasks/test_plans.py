"""Plans that are kept: made while the tables are empty, they must do when these have grown."""

import re

import pytest
from sqlalchemy import Engine, text

from tests.builders import agent_reply, decision, subtask
from tests.integration.tasks.core import Core

# What reads a whole table, however large it has become.
WHOLE = re.compile(r"(Seq|Bitmap \w+) Scan on|(Hash|Merge) (\w+ )?Join")


@pytest.mark.parametrize("engine", [True], indirect=True, ids=["as workers"])
def test_what_is_prepared_reads_no_table_as_a_whole(core: Core, engine: Engine) -> None:
    core.submit(core.network("content"))
    core.finish(core.claim(), decision(subtask("a"), subtask("b", "content", "a")))
    for _ in range(2):
        core.finish(core.claim("content"), agent_reply())
    core.finish(core.claim(), decision())
    with engine.begin() as connection:
        prepared = connection.execute(text("SELECT name, cardinality(parameter_types) FROM pg_prepared_statements"))
        plans = {
            name: connection.exec_driver_sql(f"EXPLAIN EXECUTE {name} ({', '.join(['NULL'] * count)})").scalars().all()
            for name, count in prepared.all()
        }
    assert len(plans) > 5
    for plan in plans.values():
        assert not WHOLE.search("\n".join(plan)), "\n".join(plan)
