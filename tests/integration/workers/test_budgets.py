"""A budget under a crowd of tasks, with a worker that is killed; `make budgets` does it twenty times."""

import os

import pytest

from tests.integration.workers.conftest import Fleet
from tests.integration.workers.crowd import scenario

pytestmark = pytest.mark.xdist_group("workers-budgets")

ROUNDS = int(os.environ.get("ROUNDS", "1"))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("_round", range(ROUNDS))
def test_64_tasks_never_overspend_a_budget_for_ten_and_put_it_to_use(fleet: Fleet, _round: int) -> None:
    scenario(fleet, thorough=ROUNDS > 1)
