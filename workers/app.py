"""The Celery app of the workers, with every setting and its reason.  Jobs are in `workers.jobs`."""

from collections.abc import Sequence

from celery import Celery
from kombu import Queue

from mesh.config import Settings
from mesh.dispatch.permits import TRANSPORT_OPTIONS

# Above every blocking read of kombu's (redis-py's own 5 s would break them); a dead peer is noticed by TCP.
SOCKET_SECONDS = 30


def create(settings: Settings, queues: Sequence[str]) -> Celery:
    """An app that consumes `queues` and nothing else."""
    app = Celery("mesh", broker=settings.effective_broker_url)
    app.conf.update(
        task_queues=[Queue(name, routing_key=name) for name in queues],
        # A permit is acknowledged on arrival: what it stands for is a row, and the sweep finds what was lost.
        # Late acknowledgement makes workers exit when Redis drops under a running job (5.7.0), and runs jobs twice.
        task_acks_late=False,
        # A permit is taken only when a slot is free, so that another pool may have it meanwhile.
        worker_disable_prefetch=True,
        # No result backend: results are rows, and a backend makes publishing hang for 19 s when Redis does.
        task_ignore_result=True,
        result_backend=None,
        # Cancellation goes by leases; remote control leaks reply keys in Redis.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        # Ours: JSON lines by structlog.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # Redis may be away at the start, and at any time after.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            **TRANSPORT_OPTIONS,
            # What is under way between list and slot is kept in memory, and put back at a stop; in Redis, that would be
            # two round trips a permit, against a loss that the sweep makes up for anyway.
            "ack_emulation": False,
            "socket_timeout": SOCKET_SECONDS,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "retry_on_timeout": False,
        },
    )
    return app
