"""All tables, one module a subject; importing this package fills `metadata` (Alembic compares against it)."""

from mesh.db.tables.base import metadata
from mesh.db.tables.costs import budgets, model_calls, requests_hourly, usage_daily, usage_hourly
from mesh.db.tables.events import events
from mesh.db.tables.idempotency import idempotency_keys
from mesh.db.tables.memory import memories
from mesh.db.tables.networks import agents, networks
from mesh.db.tables.security import api_keys
from mesh.db.tables.tasks import steps, tasks
from mesh.db.tables.workers import workers

__all__ = [
    "agents",
    "api_keys",
    "budgets",
    "events",
    "idempotency_keys",
    "memories",
    "metadata",
    "model_calls",
    "networks",
    "requests_hourly",
    "steps",
    "tasks",
    "usage_daily",
    "usage_hourly",
    "workers",
]
