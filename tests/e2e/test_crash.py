"""kill -9 of any process, and FLUSHALL, while tasks run: none is lost, and no finished step is paid twice.

The short form; `make chaos` runs the long one.
"""

from pathlib import Path

import pytest

from tests.chaos.campaign import RECOVERY_SECONDS, campaign, report


@pytest.mark.timeout(240)
def test_whatever_dies_every_accepted_task_completes_and_nothing_is_paid_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with campaign(tmp_path / "home") as at_work:
        for fault in ("worker", "api_between_commit_and_publish", "flush", "beat", "valkey"):
            at_work.wave(3)
            at_work.strike(fault)
        for fault in ("postmaster", "worker"):
            at_work.wave(2)
            at_work.healed()
            at_work.strike(fault)
        recoveries = at_work.finish()
        with capsys.disabled():
            report(recoveries)
        assert all(recovery.next_step < RECOVERY_SECONDS for recovery in recoveries)
        assert all(recovery.all_on < RECOVERY_SECONDS for recovery in recoveries)
