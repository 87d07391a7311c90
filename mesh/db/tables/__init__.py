"""All tables, one module a subject; importing this package fills `metadata` (Alembic compares against it)."""

from mesh.db.tables.base import metadata
from mesh.db.tables.costs import budgets, model_calls, requests_hourly, usage_daily, usage_hourly
from mesh.db.tables.events import events
from mesh.db.tables.idempotency import idempotency_keys
from mesh.db.tables.memory import embedding_model, memories, memories_to_embed, task_vectors
from mesh.db.tables.networks import agents, network_counts, networks
from mesh.db.tables.security import api_keys
from mesh.db.tables.tasks import steps, tasks
from mesh.db.tables.workers import workers

__all__ = [
    "agents",
    "api_keys",
    "budgets",
    "embedding_model",
    "events",
    "idempotency_keys",
    "memories",
    "memories_to_embed",
    "metadata",
    "model_calls",
    "network_counts",
    "networks",
    "requests_hourly",
    "steps",
    "task_vectors",
    "tasks",
    "usage_daily",
    "usage_hourly",
    "workers",
]
