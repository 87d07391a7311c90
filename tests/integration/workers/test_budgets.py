"""A budget under a crowd of tasks, with workers that are killed; `make budgets` does it twenty times."""

import pytest

from tests.chaos.budgets import scenario
from tests.integration.workers.conftest import Fleet

pytestmark = pytest.mark.xdist_group("workers-budgets")


@pytest.mark.timeout(400)
def test_64_tasks_never_overspend_a_budget_for_ten_and_put_it_to_use(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    told = scenario(fleet)
    with capsys.disabled():
        print(f"\nbudget: {told}")
