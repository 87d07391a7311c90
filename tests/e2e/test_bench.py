"""The benchmark runs, in its smallest form: what it says is for people, that it says it is for CI."""

import subprocess
import sys

import pytest


@pytest.mark.timeout(180)
def test_the_benchmark_runs_and_stands_beside_its_controls() -> None:
    smallest = ["--runs=1", "--burst=4", "--rounds=1", "--steps=12", "--calm=0"]
    command = [sys.executable, "-m", "tests.load.bench", *smallest]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("bare Celery chain") == 2
    assert "worker above the bare loop" in ran.stdout
