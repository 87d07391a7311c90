"""Prepared statements: what a worker runs for every step is parsed and planned once a connection.

Parsing and planning is four fifths of what PostgreSQL spends on a claim (0.35 of 0.43 ms, measured).  A plan that is
kept must stay right while its tables grow from nothing, which the planner does not see to; so connections that prepare
(`engine.create(..., prepares=True)`) may use nothing but index scans, which is what these statements are written for.
Other connections run the same SQL plainly.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult, text

# The execution option that says so.
PREPARES = "mesh_prepares"

SESSION_OPTIONS = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off"

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


class Prepared:
    """SQL with `:name` parameters; `types` names the type of each that is not text."""

    def __init__(self, sql: str, **types: str) -> None:
        names = list(dict.fromkeys(_PARAMETER.findall(sql)))
        self._plain = text(sql)
        self._name = f"mesh_{hashlib.sha256(sql.encode()).hexdigest()[:16]}"
        numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql)
        listed = ", ".join(types.get(name, "text") for name in names)
        self._prepare = f"PREPARE {self._name} ({listed}) AS {numbered}"
        self._execute = f"EXECUTE {self._name} ({', '.join(f'%({name})s' for name in names)})"

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Run it with `values`, which may hold more than its parameters."""
        if not connection.get_execution_options().get(PREPARES):
            return connection.execute(self._plain, dict(values))
        known: set[str] = connection.info.setdefault(PREPARES, set())
        if self._name not in known:
            connection.exec_driver_sql(self._prepare)
            known.add(self._name)
        return connection.exec_driver_sql(self._execute, dict(values))
