"""The long form of `tests.integration.workers.test_ledger`."""

import sys

import pytest

from tests.chaos.ledger import scenario
from tests.integration.workers.conftest import Fleet


@pytest.mark.timeout(900)
def test_the_books_are_right_after_five_hundred_calls_and_eight_killed_workers(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    told = scenario(fleet, calls=500, kills=8)
    with capsys.disabled():
        sys.stdout.write(f"\nledger: {told}\n")
