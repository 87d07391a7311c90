"""Beat while Redis hangs: whoever accepts and never answers is worse than nobody at all."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.integration.workers.conftest import Fleet
from tests.system import clean_environment

# The call itself would take 30 s; beat needs about four.
END_SECONDS = 15

# As `python -m workers.beat`, but that its jobs are due at once.
IMPATIENT = """
from workers.beat import main
from workers.jobs.control import SCHEDULE
for job in SCHEDULE.values():
    job["schedule"] = 0.1
main()
"""


def test_beat_ends_within_seconds_while_it_hangs_in_a_call_of_redis(fleet: Fleet, tmp_path: Path) -> None:
    log = tmp_path / "beat.log"
    with socket.create_server(("127.0.0.1", 0)) as redis, log.open("wb") as output:
        redis.settimeout(30)
        variables = {**fleet.variables(), "MESH_REDIS_URL": f"redis://127.0.0.1:{redis.getsockname()[1]}/0"}
        command = [sys.executable, "-c", IMPATIENT]
        beat = subprocess.Popen(command, stdout=output, stderr=output, env=clean_environment(variables))
        try:
            connection, _ = redis.accept()
            beat.send_signal(signal.SIGTERM)
            assert beat.wait(timeout=END_SECONDS) == 0, log.read_text()
            connection.close()
        finally:
            beat.kill()
            beat.wait()
    assert fleet.rows("SELECT 1 FROM workers") == [], "it gave its lease up"
