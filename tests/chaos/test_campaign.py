"""The long form of `tests.e2e.test_crash`: every fault by itself, healed before the next, and then by chance."""

import random
from pathlib import Path

import pytest

from tests.chaos.campaign import FAULTS, RECOVERY_SECONDS, campaign, report


@pytest.mark.timeout(900)
def test_every_fault_heals_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with campaign(tmp_path / "home") as at_work:
        for fault in FAULTS:
            at_work.wave(3)
            at_work.strike(fault)
            at_work.wave(1)
            at_work.healed()
        recoveries = at_work.finish()
        with capsys.disabled():
            report(recoveries)
        assert all(recovery.all_on < RECOVERY_SECONDS for recovery in recoveries)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
def test_faults_by_chance_and_before_the_last_one_has_healed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """Recovery may take longer here, since one fault falls into the healing of another; nothing else may give."""
    chance = random.Random(seed)
    with campaign(tmp_path / "home") as at_work:
        for fault in chance.choices(list(FAULTS), k=20):
            at_work.wave(chance.randint(1, 3))
            at_work.strike(fault)
        recoveries = at_work.finish(seconds=120)
        with capsys.disabled():
            report(recoveries)
        assert len(recoveries) == 20
