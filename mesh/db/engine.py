"""The engine: how this process talks to PostgreSQL.  Nothing else makes connections."""

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from mesh.db.prepared import SESSION_OPTIONS, WHOLE_SESSION
from mesh.db.session import Session
from mesh.errors import ConfigurationError

# At most 10 connections a process (and up to two for leadership, which are among them); docs/operations.md has the sum.
POOL_SIZE = 8
POOL_OVERFLOW = 2

_SESSION_OPTIONS = (
    # No statement of ours comes near this; one that does holds locks that others wait for.
    "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=30000 "
    # JIT compiles for longer than our statements run.
    "-c jit=off -c timezone=UTC "
    # The server, too, notices a client that vanished, and lets go of its locks: leadership is one.
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=10000"
)


def create(url: str, *, name: str, prepared_only: bool = False) -> Engine:
    """An engine for `url` (`postgresql://...`); `name` is what `pg_stat_activity` shows.

    `prepared_only` is for agents' workers: see `mesh.db.prepared`.

    Raises:
        ConfigurationError: there is no URL, or it is not PostgreSQL's.
    """
    if not url:
        raise ConfigurationError(
            "MESH_DATABASE_URL is not set: give a PostgreSQL address, or use `mesh up`, which brings one."
        )
    return create_engine(
        _parsed(url).set(drivername="postgresql+psycopg2"),
        execution_options={WHOLE_SESSION: prepared_only},
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=30,
        # The connection used last is the one whose server process has all it needs at hand: what rotates among eight of
        # them is 6 ms slower in a task that waits for its models in between.
        pool_use_lifo=True,
        # Else each new connection looks for a type that is not used here.
        use_native_hstore=False,
        # An error's text may reach a log; its parameters are users' data.
        hide_parameters=True,
        connect_args={
            "application_name": name,
            "connect_timeout": 3,
            "connection_factory": Session,
            "options": f"{_SESSION_OPTIONS} {SESSION_OPTIONS}" if prepared_only else _SESSION_OPTIONS,
            # A server that vanished without a word is noticed within about 10 s.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10000,
        },
    )


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # its message may hold the password
        raise ConfigurationError(
            "MESH_DATABASE_URL cannot be read as an address: it must look like postgresql://user:password@host:5432/mesh."
        ) from None
    if parsed.get_backend_name() != "postgresql":
        raise ConfigurationError(
            f"MESH_DATABASE_URL must be a postgresql:// address, not {parsed.get_backend_name()}://."
        )
    return parsed
