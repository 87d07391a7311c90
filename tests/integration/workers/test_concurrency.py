"""What one worker does at once."""

from tests.integration.workers.conftest import Fleet
from tests.system import eventually

SLOTS = 64
# All calls must have begun before the first one ends, also on a busy machine; they take a second on an idle one.
LATENCY_SECONDS = 4.0
MOST_CONNECTIONS = 10


def test_as_many_calls_of_one_model_are_in_flight_as_there_are_slots_over_few_connections(fleet: Fleet) -> None:
    """Nothing between a slot and its model lets one pass at a time: no breaker, no limiter, no pool."""
    fleet.sandbox.latency(LATENCY_SECONDS)
    network_id = fleet.network()
    for _ in range(SLOTS):
        fleet.submit(network_id)
    worker = fleet.worker(slots=SLOTS)
    connections, in_flight = [0], [0]
    used = "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'mesh-worker' AND datname = :name"
    name = fleet.mesh.database.engine.url.database

    def all_went_on_after_their_first_call() -> bool:
        calls = fleet.sandbox.summary()
        connections.append(fleet.rows(used, name=name)[0].n)
        in_flight.append(calls["open"])
        return bool(calls["calls"] >= 2 * SLOTS)

    eventually(all_went_on_after_their_first_call, every=0.02)
    assert len(fleet.sandbox.summary()["per_model"]) == 1
    assert max(in_flight) == SLOTS
    assert 1 < max(connections) <= MOST_CONNECTIONS
    fleet.kill(worker)
