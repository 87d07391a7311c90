"""Execution: what a slot does with a permit.

workers.jobs.agents -> here.  Claim, brief, run, finish; then perhaps a step that this one made ready, so that a task's
critical path does not pass through the broker.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event, Lock
from typing import Any

import structlog

from mesh.agents.runner import DecisionBrief, Runner, Terms
from mesh.agents.schemas import Decision
from mesh.clock import Clock
from mesh.db.unit_of_work import Database
from mesh.dispatch.permits import Dispatcher
from mesh.errors import (
    AgentRemovedError,
    AllModelsFailedError,
    BudgetBusyError,
    BudgetExceededError,
    ContentionError,
    DeadlineExceededError,
    ModelsBusyError,
    StepLostError,
    UnavailableError,
)
from mesh.models.calls import Cancellation, Reply
from mesh.tasks import claims
from mesh.tasks.briefing import Briefing, prepare
from mesh.tasks.claims import Claim
from mesh.tasks.journal import StepJournal
from mesh.tasks.orchestrator import Failure, Orchestrator
from mesh.tasks.plan import plan
from mesh.tasks.wakeups import Wakeups
from mesh.tasks.watching import StepText, Watching

log = structlog.get_logger(__name__)

# A slot goes on with what its step made ready, but so often only: other queues' permits wait behind it.
MOST_FOLLOWERS = 2

# How long a step waits for what others have reserved; the sweep looks every two seconds anyway.
BUDGET_PAUSE_SECONDS = 1.0

# Between the tries of a claim that finds all rows held: others commit, which waits for a disk.  Whoever took the
# queue for empty would waste its permit, and the step wait for the sweep.
CLAIM_PAUSES_SECONDS = tuple(0.001 * 2**doublings for doublings in range(8))

# Asking again cannot help.
_FINAL = frozenset({"not_authorized", "model_not_found", "bad_request", "context_too_long", "not_suitable"})


class InFlight:
    """The steps that run in this process, and the way to stop each; the heartbeat asks about them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: dict[tuple[str, int], Cancellation] = {}

    def add(self, claim: Claim) -> Cancellation:
        """Note that `claim` runs."""
        cancellation = Cancellation()
        with self._lock:
            self._running[claim.step_id, claim.attempt] = cancellation
        return cancellation

    def remove(self, claim: Claim) -> None:
        """Note that `claim` has ended."""
        with self._lock:
            self._running.pop((claim.step_id, claim.attempt), None)

    def present(self) -> list[tuple[str, int]]:
        """Step and attempt of all that runs."""
        with self._lock:
            return list(self._running)

    def stop(self, step_id: str, attempt: int) -> None:
        """Stop one, if it still runs."""
        with self._lock:
            cancellation = self._running.get((step_id, attempt))
        if cancellation is not None:
            cancellation.cancel()


class Execution:
    """Runs steps for the worker `worker_id`, which serves `queues`."""

    def __init__(  # noqa: PLR0913  # the parts that a step passes through
        self,
        *,
        database: Database,
        runner: Runner,
        orchestrator: Orchestrator,
        dispatcher: Dispatcher,
        wakeups: Wakeups,
        clock: Clock,
        worker_id: str,
        queues: Sequence[str],
        sandbox: bool,
        watching: Watching | None = None,
    ) -> None:
        """Without `watching`, texts are not shown while they are written."""
        self._database = database
        self._runner = runner
        self._orchestrator = orchestrator
        self._dispatcher = dispatcher
        self._wakeups = wakeups
        self._clock = clock
        self._worker_id = worker_id
        self._queues = frozenset(queues)
        self._sandbox = sandbox
        self._watching = watching
        self._draining = Event()
        self._take: Callable[[Callable[[], None]], bool] | None = None
        self.in_flight = InFlight()

    def share(self, take: Callable[[Callable[[], None]], bool]) -> None:
        """From now on hand what a step makes ready to `take`, which runs it in another slot or answers False.

        Permits go to the broker only for what nobody takes.
        """
        self._take = take

    def drain(self) -> None:
        """Begin no further step: those under way are finished, what follows from them is for others."""
        self._draining.set()

    def serve(self, queue: str, *, refill: bool) -> None:
        """Run the best ready step of `queue`, if there is one, and at most two that follow from it.

        A permit with `refill` is passed on when its queue had more than one step: it stands for a slot that would
        else stay empty, not for one step.  A permit that comes to nothing is made up for by the sweep.
        """
        try:
            self._serve(queue, refill=refill)
        except (UnavailableError, ContentionError) as error:
            log.warning("permit_unused", queue=queue, reason=str(error))

    def _serve(self, queue: str, *, refill: bool) -> None:
        following: str | None = queue
        for _ in range(1 + MOST_FOLLOWERS):
            if following is None:
                return
            claim = self._claim(following)
            if claim is None:
                if self._draining.is_set():
                    break
                return
            if refill and self._waits(queue):
                self._dispatcher.send(queue, refill=True)
            refill = False
            filled = Counter(self._run(claim))
            following = next((name for name in filled if name in self._queues), None)
            if following is not None:
                filled -= Counter([following])
            self._wake(filled)
        if following is not None:
            self._wake(Counter([following]))

    def _claim(self, queue: str) -> Claim | None:
        """None: `queue` has nothing to do, or this worker leaves."""
        for pause in (0, *CLAIM_PAUSES_SECONDS):
            if self._draining.wait(pause):
                return None
            with self._database.begin(atomic=False) as work:
                claim = claims.claim(work.connection, queue=queue, worker_id=self._worker_id, now=self._clock())
                if claim is not None or not claims.waits(work.connection, queue):
                    return claim
        return None

    def _waits(self, queue: str) -> bool:
        """Whether `queue` has more; no, where that cannot be known: what was claimed already must run."""
        try:
            with self._database.begin(atomic=False) as work:
                return claims.waits(work.connection, queue)
        except (UnavailableError, ContentionError) as error:
            log.warning("refill_not_passed_on", queue=queue, reason=str(error))
            return False

    def _wake(self, queues: Counter[str]) -> None:
        for name in queues.elements():
            if not self._handed_on(name):
                self._dispatcher.send(name)

    def _handed_on(self, queue: str) -> bool:
        """Whether another slot of this process has taken the work in `queue`."""
        if self._take is None or queue not in self._queues or self._draining.is_set():
            return False
        return self._take(partial(self.serve, queue, refill=False))

    def _run(self, claim: Claim) -> Sequence[str]:
        """Run a claimed step to the end of its attempt; answers the queues that got work."""
        with structlog.contextvars.bound_contextvars(
            task_id=claim.task_id, step_id=claim.step_id, attempt=claim.attempt
        ):
            cancellation = self.in_flight.add(claim)
            try:
                return self._attempt(claim, cancellation)
            finally:
                self.in_flight.remove(claim)

    def _attempt(self, claim: Claim, cancellation: Cancellation) -> Sequence[str]:
        try:
            briefing = self._database.persist(
                lambda work: prepare(work.connection, claim, worker_id=self._worker_id, now=self._clock()),
                atomic=False,
            )
            reply = self._ask(claim, briefing, cancellation)
            recalled = [memory.memory_id for memory in briefing.brief.memories]
            return self._orchestrator.finish(claim, reply, recalled=recalled)
        except StepLostError as error:
            log.info("step_lost", reason=str(error))
            return []
        except DeadlineExceededError:
            self._orchestrator.expire(claim.task_id)
            return []
        except BudgetExceededError as error:
            log.info("task_paused", reason=str(error))
            self._orchestrator.pause(claim, reason=str(error), needs_usd=error.needed_usd)
            return []
        except (BudgetBusyError, ModelsBusyError) as error:
            log.info("step_waits", code=error.code, reason=str(error))
            seconds = error.seconds if isinstance(error, ModelsBusyError) else BUDGET_PAUSE_SECONDS
            not_begun = isinstance(error, BudgetBusyError) and error.not_begun
            self._orchestrator.put_back(claim, seconds=seconds, not_begun=not_begun)
            return []
        except UnavailableError:
            raise  # nothing can be written; the step is an orphan once the database is back
        except AgentRemovedError as error:
            failure = Failure(error.code, str(error), retry=False)
        except AllModelsFailedError as error:
            failure = _failure(error)
        except Exception:  # a fault of ours must not leave the step running until its lease ends
            log.exception("step_broke")
            failure = Failure("internal_error", "The step failed for a reason of the service's own.", retry=True)
        log.warning("step_failed", code=failure.code, retry=failure.retry)
        return self._orchestrator.fail(claim, failure)

    def _ask(self, claim: Claim, briefing: Briefing, cancellation: Cancellation) -> Reply[Any]:
        shows = briefing.brief.shows
        text = self._watching.text_of(claim, briefing.network_id, shows) if self._watching else None
        try:
            return self._ask_models(claim, briefing, cancellation, text)
        finally:
            if text:
                text.close()  # before it is told that the step has ended

    def _ask_models(
        self, claim: Claim, briefing: Briefing, cancellation: Cancellation, text: StepText | None
    ) -> Reply[Any]:
        journal = StepJournal(
            claim,
            briefing.spender,
            sandbox=self._sandbox,
            database=self._database,
            wakeups=self._wakeups,
            clock=self._clock,
            text=text,
        )
        timeout_seconds = (briefing.expires_at - self._clock()).total_seconds()
        terms = Terms(journal, cancellation, timeout_seconds, text.feed if text else None)
        if isinstance(briefing.brief, DecisionBrief):
            return self._runner.decide(briefing.brief, terms, check=_check_plan)
        return self._runner.reply(briefing.brief, terms)


def _check_plan(decision: Decision) -> None:
    plan(decision.subtasks)


def _failure(error: AllModelsFailedError) -> Failure:
    """Worth another try unless every model refused for good; not before the first of the others may be asked."""
    pauses = [cause.retry_after_seconds or 0 for _, cause in error.causes if cause.code not in _FINAL]
    return Failure(error.code, str(error), retry=bool(pauses), after_seconds=min(pauses, default=None))
