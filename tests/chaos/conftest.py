"""The services that integration tests have, for scenarios that run workers by themselves."""

from tests.integration.conftest import (
    database_url,
    migrated_database,
    postgres_url,
    redis_flushed,
    redis_url,
    services,
    services_home,
)
from tests.integration.workers.conftest import fleet, sandbox, sandbox_process

__all__ = [
    "database_url",
    "fleet",
    "migrated_database",
    "postgres_url",
    "redis_flushed",
    "redis_url",
    "sandbox",
    "sandbox_process",
    "services",
    "services_home",
]
