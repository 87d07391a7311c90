"""Embedding: the job that gives items, and tasks that recall them, their vectors.

beat -> workers.jobs.control -> here -> an `Embedder`.  What waits is taken in batches, embedded outside any
transaction, and stored if its text is still the same; then items that agents wrote are merged into what says the same
already.  What cannot be embedded stays in its queue.  Where a call fails though the model works, it is for one of its
texts, which is found by smaller and smaller batches and then left alone for a while; else the model is.
"""

import threading
import time
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import accumulate
from operator import neg
from typing import Protocol

import structlog

from mesh.clock import Clock
from mesh.costs.ledger import Spender
from mesh.db.unit_of_work import Database
from mesh.errors import BudgetBusyError, BudgetExceededError, ModelCallError, ModelsBusyError
from mesh.memory.embedding_queue import BATCH, IN_HAND, EmbeddingQueue, Waiting
from mesh.memory.views import LEAST_SIMILARITY, Meaning

# A run ends after this, so that what else waits for its slot gets it; the next one goes on.
RUN_SECONDS = 20.0
# Of a batch, so many spenders' texts are embedded at once.
CALLS_AT_ONCE = 4
# What waits for a budget is not looked at all the time, so that a network's thousands are in nobody's way.
WITHOUT_BUDGET = timedelta(minutes=10)
# So many texts are embedded together that have failed so often, until the one that fails is alone.
SIZES = (BATCH, 8, 2, 1)
# A text that fails alone waits so long the first time, four times as long the next time, and a day at most.
ALONE = timedelta(minutes=1)
LONGEST = timedelta(days=1)
# Nothing is asked for so long after the model failed, and twice as long each time that it does so again.
REST_SECONDS = 10.0
LONGEST_REST_SECONDS = 600.0
# What may be for a text; whether it is, is known if the model did its work so lately, or does it with a plain word.
_MAYBE_FOR_A_TEXT = frozenset(
    {
        "bad_request",
        "context_too_long",
        "content_blocked",
        "provider_error",
        "malformed_reply",
        "timeout",
        "connection_failed",
    }
)
LATELY = timedelta(minutes=1)
PLAIN = "word"

log = structlog.get_logger(__name__)


class Embedder(Protocol):
    """A model that turns texts into vectors of unit length and 384 dimensions.

    `model` names what its vectors can be compared with, and below `least_similarity` two are of texts without relation.
    If it `charges`, each spender's texts are embedded by themselves.  A search is answered within `answer_seconds`, or
    goes by words.
    """

    model: str
    least_similarity: float = LEAST_SIMILARITY
    charges: bool = False
    answer_seconds: float = 0.2

    def warm_up(self) -> None:
        """Load what the first text would take too long without."""
        return

    def warm(self) -> bool:
        """Whether a search can be answered so soon."""
        return True

    def embed(self, texts: Sequence[str], spender: Spender, /) -> list[list[float]]:
        """A vector for each text, in their order, at the cost of `spender`.

        Raises:
            BudgetExceededError, BudgetBusyError: the spender has to wait.
            ModelsBusyError, ModelCallError: everybody has to, unless it is these texts that are refused.
        """


class Embedding:
    """Embeds what waits for it, by `embedder`."""

    def __init__(self, database: Database, embedder: Embedder, clock: Clock) -> None:
        self._queue = EmbeddingQueue(database, clock, embedder.model)
        self._embedder = embedder
        self._clock = clock
        self._running = threading.Lock()
        self._taking_over = threading.Lock()
        # Whether its vectors have been stored, and whether they are.
        self._begun = self._stored = False
        self._rest_until: datetime | None = None
        self._rests = 0
        self._worked_at: datetime | None = None

    def possible(self) -> bool:
        """Whether the database keeps vectors, and this model's."""
        return self._queue.stored()

    def run(self) -> int:
        """Embed what waits, for a while; answers how many texts were taken.  One run at a time in a process."""
        if not self._running.acquire(blocking=False):
            return 0
        try:
            return self._run() if not self._resting() and self._queue.possible() else 0
        except (ModelCallError, ModelsBusyError) as error:
            self._rest(error)
            return 0
        finally:
            self._running.release()

    def _resting(self) -> bool:
        return self._rest_until is not None and self._clock() < self._rest_until

    def _rest(self, error: ModelCallError | ModelsBusyError) -> None:
        """Leave the provider alone for a while, and say so once for all that waits."""
        asked = error.seconds if isinstance(error, ModelsBusyError) else error.retry_after_seconds
        seconds = asked or min(REST_SECONDS * 2 ** min(self._rests, 9), LONGEST_REST_SECONDS)
        self._rests += 1
        self._rest_until = self._clock() + timedelta(seconds=seconds)
        log.warning("embedding_rests", reason=error.code, detail=str(error), seconds=round(seconds, 1))

    def _run(self) -> int:
        total, until = 0, time.monotonic() + RUN_SECONDS
        while time.monotonic() < until and self._current():
            memories = self._queue.take_memories()
            taken = [*self._queue.take_tasks(), *memories]
            self._embed(taken, until)
            for network_id in {row.network_id for row in memories}:
                self._queue.promote(network_id)
            if not taken and not (self._queue.renew() if self._begun else self._queue.sample()):
                break
            total += len(taken)
        return total

    def _current(self) -> bool:
        """Whether this model's vectors are stored, or are to be; said when that changes."""
        stored = self._queue.stored()
        if self._stored and not stored:
            log.warning("embedding_superseded", model=self._embedder.model, hint="Give all workers one MESH_EMBEDDINGS")
        self._stored = stored
        self._begun |= stored
        return stored or not self._begun

    def _works(self) -> None:
        """Note that the model does: then, and not before, its vectors may take the place of another one's."""
        self._worked_at, self._rests = self._clock(), 0
        with self._taking_over:
            if not self._begun:
                self._queue.take_over()
                self._begun = True

    def _embed(self, rows: Sequence[Waiting], until: float) -> None:
        if over := [row for row in rows if row.over]:
            self._queue.drop(over)
        stopped = threading.Event()

        def embed(group: Sequence[Waiting]) -> None:
            if stopped.is_set() or self._late(group) or time.monotonic() > until:
                self._queue.put_back(group)
                return
            try:
                self._embed_group(group)
            except BaseException:
                stopped.set()
                raise

        with ThreadPoolExecutor(CALLS_AT_ONCE) as beside:
            embedded = [beside.submit(embed, group) for group in self._groups(row for row in rows if not row.over)]
        for group in embedded:
            group.result()

    def _groups(self, rows: Iterator[Waiting]) -> Iterator[Sequence[Waiting]]:
        """What is embedded at once: one spender's, and the fewer the oftener it failed: what fails gets alone."""
        alike: defaultdict[tuple[Spender | None, int], list[Waiting]] = defaultdict(list)
        for row in rows:
            alike[row.spender if self._embedder.charges else None, row.attempts].append(row)
        for (_, attempts), group in alike.items():
            size = SIZES[min(attempts, len(SIZES) - 1)]
            yield from (group[at : at + size] for at in range(0, len(group), size))

    def _late(self, group: Sequence[Waiting]) -> bool:
        """Others may have it before this is done."""
        return self._clock() > group[0].taken_until - IN_HAND / 2

    def _embed_group(self, group: Sequence[Waiting]) -> None:
        try:
            embedded = self._embedder.embed([row.content for row in group], group[0].spender)
        except BudgetBusyError:
            log.info("embedding_waits_for_budget", network_id=group[0].network_id)
        except BudgetExceededError as error:
            self._within_budget(group, error)
        except ModelsBusyError:
            self._queue.put_back(group)
            raise
        except ModelCallError as error:
            self._failed(group, error)
        else:
            self._works()
            for row, vector in zip(group, embedded, strict=True):
                self._queue.store(row, Meaning(self._embedder.model, vector, self._embedder.least_similarity))

    def _within_budget(self, group: Sequence[Waiting], error: BudgetExceededError) -> None:
        """Embed the shorter texts, as many as can be paid with what is left of the budget; the others wait."""
        by_length = sorted(group, key=_length)
        lengths = list(accumulate(map(_length, by_length)))
        affordable = lengths[-1] * error.left_usd / (error.needed_usd or 1)
        most = min(bisect(lengths, affordable), len(group) - 1)
        waiting = by_length[most:]
        log.info("embedding_postponed", network_id=waiting[0].network_id, count=len(waiting), reason=error.code)
        self._queue.put_back(waiting, wait=WITHOUT_BUDGET)
        if most:
            self._embed_group(by_length[:most])

    def _failed(self, group: Sequence[Waiting], error: ModelCallError) -> None:
        """Have the text found that the call failed for, and no other one wait for it.

        Raises:
            ModelCallError: it was for no text.
        """
        if error.code not in _MAYBE_FOR_A_TEXT or not self._works_else(group[0].spender):
            self._queue.put_back(group)
            raise error
        alone = len(group) == 1
        attempts = group[0].attempts + 1 if alone else bisect(SIZES, -len(group), key=neg)
        wait = _wait(attempts) if alone else timedelta(0)
        log.info("embedding_failed", id=group[0].id, count=len(group), reason=error.code, wait=str(wait))
        self._queue.put_back(group, wait=wait, attempts=attempts)

    def _works_else(self, spender: Spender) -> bool:
        """Whether the model did its work lately, or does it for a plain word of the spender's."""
        if self._worked_at is not None and self._clock() - self._worked_at < LATELY:
            return True
        try:
            self._embedder.embed([PLAIN], spender)
        except (ModelCallError, ModelsBusyError):
            return False
        except (BudgetBusyError, BudgetExceededError):
            return True  # the texts are this spender's, and nobody else waits for them
        self._works()
        return True


def _length(row: Waiting) -> int:
    return len(row.content.encode())


def _wait(attempts: int) -> timedelta:
    """How long a text is left alone that failed so often, of which the last times by itself."""
    times = min(max(0, attempts - len(SIZES)), 9)
    return min(ALONE * (1 << 2 * times), LONGEST)
