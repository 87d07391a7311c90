"""What tests with a hub have in common."""

import gc
from collections.abc import Iterator

import gevent
import pytest


@pytest.fixture
def no_greenlet_is_left() -> Iterator[None]:
    """Hubs have no end but the process's: theirs are ended here."""
    yield
    # By type, since isinstance() would ask what a weak proxy stands for, which may be gone.
    gevent.killall([one for one in gc.get_objects() if issubclass(type(one), gevent.Greenlet) and not one.dead])
