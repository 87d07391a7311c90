"""Performance: what each model's calls came to lately, for choosing the next one.

ledger and its hourly sums -> here -> selection.  Read now and then, beside the steps; answers come from memory.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import NamedTuple

import structlog
from sqlalchemy import text

from mesh.clock import Clock
from mesh.db.unit_of_work import Database
from mesh.errors import ContentionError, UnavailableError
from mesh.models.catalogue import Model
from mesh.models.selection import Expectation

log = structlog.get_logger(__name__)

REFRESH = timedelta(seconds=30)

# An hour's calls count half after this: a bad morning is forgotten by the evening, and a quiet night is not.
HALF_LIFE = timedelta(hours=3)

# After 24 half-lives nothing is left of a call.
WINDOW = timedelta(days=3)

# A model that was dead is asked in its place again after this.  Books stay open that long (mesh.costs.rollup).
LATELY = timedelta(minutes=15)

_HOUR = timedelta(hours=1)

# What is expected before there are calls: as if so many had been made, and gone as models of the tier usually go.
PRIOR_CALLS = 5.0
PRIOR_SUCCESS_RATE = 0.95
PRIOR_LATENCY_SECONDS = {"LOW": 3.0, "MEDIUM": 6.0, "HIGH": 12.0}

# Failures that are no fault of the model: the request's, the key's, or our own.
EXCUSED = ("bad_request", "context_too_long", "not_authorized", "model_not_found", "cancelled")

# Sums by the hour of ended calls since an hour's beginning: ix_usage_hourly_hour for those that are rolled,
# ix_model_calls_open_books for the others.  The sums do not tell one failure from another, so excused ones are taken
# away: ix_model_calls_ended_at, which is a range of the table's end.
_SUMS = text(
    """
    SELECT hour, model, agent_type, sum(settled) AS settled, sum(failed) AS failed, sum(seconds) AS seconds
    FROM (
        SELECT hour, model, agent_type, settled, failed, latency_seconds AS seconds
        FROM usage_hourly WHERE hour >= :since
        UNION ALL
        SELECT date_trunc('hour', ended_at, 'UTC'), model, coalesce(agent_type, ''),
            (state = 'settled')::int, (state = 'failed' AND coalesce(error_code, '') <> ALL (:excused))::int,
            CASE state WHEN 'settled' THEN coalesce(latency_seconds, 0) ELSE 0 END
        FROM model_calls WHERE NOT rolled AND ended_at >= :since AND state IN ('settled', 'failed')
        UNION ALL
        SELECT date_trunc('hour', ended_at, 'UTC'), model, coalesce(agent_type, ''), 0, -1, 0
        FROM model_calls WHERE rolled AND ended_at >= :since AND state = 'failed' AND error_code = ANY (:excused)
    ) calls
    GROUP BY hour, model, agent_type
    """
)

# ix_model_calls_open_books: nothing so new is rolled.
_LATELY = text(
    """
    SELECT model, coalesce(agent_type, ''),
        count(*) FILTER (WHERE state = 'settled'), count(*) FILTER (WHERE state = 'failed')
    FROM model_calls
    WHERE NOT rolled AND ended_at >= :since AND state IN ('settled', 'failed')
        AND coalesce(error_code, '') <> ALL (:excused)
    GROUP BY 1, 2
    """
)


@dataclass
class Record:
    """Calls that ended lately, each weighing less the older it is; `seconds` are those of the `settled` ones."""

    settled: float = 0.0
    failed: float = 0.0
    seconds: float = 0.0

    def add(self, other: "Record", weight: float) -> None:
        """Count `other` as well, at `weight`."""
        self.settled += weight * other.settled
        self.failed += weight * other.failed
        self.seconds += weight * other.seconds

    @property
    def success_rate(self) -> float | None:
        """The share of calls that brought a reply; None: there were none."""
        calls = self.settled + self.failed
        return self.settled / calls if calls else None

    @property
    def latency_seconds(self) -> float | None:
        """The mean time of a call that brought a reply; None: there was none."""
        return self.seconds / self.settled if self.settled else None

    def expect(self, prior: Expectation) -> Expectation:
        """What it makes of `prior`, which counts as `PRIOR_CALLS` calls."""
        success = self.settled + PRIOR_CALLS * prior.success_rate
        seconds = self.seconds + PRIOR_CALLS * prior.latency_seconds
        return Expectation(success / (self.settled + self.failed + PRIOR_CALLS), seconds / (self.settled + PRIOR_CALLS))


class _Group(NamedTuple):
    """Whose calls: those of a model for agents of a type (None: of any)."""

    model: str
    agent_type: str | None


_NOTHING = Record()


class Performance:
    """The models' success rates and latencies; `refresh` has to be called now and then, by a thread that may wait."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._reading = Lock()
        self._tried_at: datetime | None = None
        self._read_at: datetime | None = None
        self._hours: dict[datetime, dict[_Group, Record]] = {}
        self._records: dict[_Group, Record] = {}
        self._lately: dict[_Group, Record] = {}

    def refresh(self) -> None:
        """Read what has ended since, unless that was done within `REFRESH`; without the database, keep what is known.

        Only the first time the whole `WINDOW` is read.  Then only hours that may have changed: the present one and the
        one before the last reading, since calls do not end in the past.
        """
        if not self._reading.acquire(blocking=False):
            return
        try:
            now = self._clock()
            if self._tried_at is None or now - self._tried_at >= REFRESH:
                self._tried_at = now
                self._read(now)
        except (UnavailableError, ContentionError) as error:
            log.warning("performance_not_read", reason=str(error))
        finally:
            self._reading.release()

    def expect(self, model: Model, agent_type: str | None) -> Expectation:
        """What `model` may be expected to do for agents of `agent_type`.

        The calls for that type weigh against the model's in general, and these against what is usual for its tier.
        """
        return _expect(self._records, model, agent_type)

    def success_lately(self, model: Model, agent_type: str | None) -> float:
        """As `expect`, of what ended within `LATELY` before the last reading."""
        return _expect(self._lately, model, agent_type).success_rate

    def record(self, model: str) -> Record:
        """What the calls of the model named `model` came to, for all agents."""
        return self._records.get(_Group(model, None), _NOTHING)

    def _read(self, now: datetime) -> None:
        earliest = now - WINDOW
        since = (max(earliest, self._read_at - _HOUR) if self._read_at else earliest).replace(
            minute=0, second=0, microsecond=0
        )
        with self._database.begin() as work:
            # Sessions that prepare do without (mesh.db.prepared), and the range index needs it.
            work.connection.execute(text("SET LOCAL enable_bitmapscan = on"))
            rows = work.connection.execute(_SUMS, {"since": since, "excused": list(EXCUSED)}).all()
            lately = work.connection.execute(_LATELY, {"since": now - LATELY, "excused": list(EXCUSED)}).all()
        fresh: dict[datetime, dict[_Group, Record]] = defaultdict(dict)
        for hour, model, agent_type, settled, failed, seconds in rows:
            fresh[hour][_Group(model, agent_type)] = Record(float(settled), float(failed), seconds)
        kept = {hour: groups for hour, groups in self._hours.items() if earliest <= hour < since}
        self._hours, self._read_at = kept | fresh, now
        self._records = _decayed(self._hours.items(), now)
        groups = {_Group(model, agent_type): Record(settled, failed) for model, agent_type, settled, failed in lately}
        self._lately = _decayed([(now, groups)], now)


def _expect(records: Mapping[_Group, Record], model: Model, agent_type: str | None) -> Expectation:
    usual = Expectation(PRIOR_SUCCESS_RATE, PRIOR_LATENCY_SECONDS[model.tier])
    of_model = records.get(_Group(model.name, None), _NOTHING).expect(usual)
    return records.get(_Group(model.name, agent_type), _NOTHING).expect(of_model) if agent_type else of_model


def _decayed(hours: Iterable[tuple[datetime, dict[_Group, Record]]], now: datetime) -> dict[_Group, Record]:
    """The sums over all hours, by group and by model."""
    records: dict[_Group, Record] = defaultdict(Record)
    for hour, groups in hours:
        age = max(now - hour - _HOUR / 2, timedelta(0))
        weight = 0.5 ** (age / HALF_LIFE)
        for group, record in groups.items():
            records[group].add(record, weight)
            records[_Group(group.model, None)].add(record, weight)
    return dict(records)
