"""The worker's side of a direct generation: ask the models, and tell the caller's stream as long as somebody listens.

workers.jobs.generate -> here -> gateway, journal, wire.  The gateway works in a thread beside; the slot's own sends
what it tells, at least a sign of life every second, and stops it when nobody receives that.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Lock

import structlog
from redis import Redis

from mesh.clock import Clock
from mesh.costs import accounts
from mesh.costs.ledger import Spender
from mesh.db.unit_of_work import Database
from mesh.errors import MeshError, StepLostError
from mesh.generate.journal import GenerationJournal
from mesh.generate.views import ENDS, TIMEOUT_SECONDS, Job, NewGeneration
from mesh.generate.wire import Outbox, Wire
from mesh.models.calls import Cancellation, Completion, Preferences
from mesh.models.gateway import Gateway

# Its stream takes a worker for dead after a few of these.
ALIVE_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Generator:
    """Runs generations for the worker `worker_id`."""

    def __init__(
        self,
        *,
        database: Database,
        load_gateway: Callable[[], Gateway],
        redis: Redis,
        clock: Clock,
        worker_id: str,
        sandbox: bool,
    ) -> None:
        """`load_gateway` takes seconds, and is called once: by `warm_up`, or for the first generation."""
        self._database = database
        self._load_gateway = load_gateway
        self._loading = Lock()
        self._gateway: Gateway | None = None
        self._redis = redis
        self._clock = clock
        self._worker_id = worker_id
        self._sandbox = sandbox

    def warm_up(self) -> Gateway:
        """Load what asks models, unless that was done."""
        with self._loading:
            if self._gateway is None:
                self._gateway = self._load_gateway()
            return self._gateway

    def run(self, job: Job) -> None:
        """Generate, unless nobody listens any more."""
        wire, outbox, cancellation = Wire(self._redis, job.generation_id), Outbox(), Cancellation()
        with structlog.contextvars.bound_contextvars(generation_id=job.generation_id):
            if not wire.send([]):
                log.info("generation_unwanted")
                return
            with ThreadPoolExecutor(1) as beside:
                running = beside.submit(self._generate, job, outbox, cancellation)
                if not _tell(wire, outbox):
                    log.info("generation_abandoned")
                    cancellation.cancel()
                running.result()

    def _generate(self, job: Job, outbox: Outbox, cancellation: Cancellation) -> None:
        with structlog.contextvars.bound_contextvars(generation_id=job.generation_id):
            try:
                self._ask(job, outbox, cancellation)
            except StepLostError:
                log.info("generation_stopped")
            except MeshError as error:
                outbox.put("error", code=error.code, detail=str(error))
            except Exception:  # whoever listens must be told
                log.exception("generation_broke")
                detail = "The generation failed for a reason of the service's own."
                outbox.put("error", code="internal_error", detail=detail)

    def _ask(self, job: Job, outbox: Outbox, cancellation: Cancellation) -> None:
        spender = Spender(
            job.user_id, job.key_id, job.asked.network_id, None, None, None, attempt=1, worker_id=self._worker_id
        )
        journal = GenerationJournal(spender, outbox, sandbox=self._sandbox, database=self._database, clock=self._clock)
        reply = self.warm_up().complete(
            _completion(job.asked, outbox, self._left(spender)),
            journal=journal,
            cancellation=cancellation,
            timeout_seconds=TIMEOUT_SECONDS,
        )
        journal.settle(reply)
        usage = reply.raw.usage
        outbox.put(
            "complete",
            model=reply.model.name,
            finish_reason=reply.raw.finish_reason,
            usage={"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
            cost_usd=None if reply.raw.cost_usd is None else float(reply.raw.cost_usd),
        )

    def _left(self, spender: Spender) -> Decimal | None:
        with self._database.begin(atomic=False) as work:
            return accounts.left(work.connection, spender.budgets, now=self._clock())


def _completion(asked: NewGeneration, outbox: Outbox, budget_left_usd: Decimal | None) -> Completion[str]:
    system = [{"role": "system", "content": asked.system}] if asked.system else []
    wishes = {**asked.model_selection, **({"model": asked.model} if asked.model else {})}
    return Completion(
        messages=[*system, {"role": "user", "content": asked.prompt}],
        schema=None,
        parse=str,
        repair=None,
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        preferences=Preferences(**wishes),
        budget_left_usd=budget_left_usd,
        on_text=lambda text: outbox.put("token", text=text),
    )


def _tell(wire: Wire, outbox: Outbox) -> bool:
    """Send what is told to its end; False as soon as nobody listens."""
    while True:
        told = outbox.take(ALIVE_SECONDS)
        if not wire.send(told):
            return False
        if told and told[-1][0] in ENDS:
            return True
