"""The books after a little chaos; `tests/chaos/test_ledger.py` is the long form."""

import pytest

from tests.chaos.ledger import scenario
from tests.integration.workers.conftest import Fleet

pytestmark = pytest.mark.xdist_group("workers-ledger")


def test_every_call_that_a_provider_saw_is_one_row_to_the_last_digit(fleet: Fleet) -> None:
    scenario(fleet, calls=60, kills=1)
