"""A program for tests: keeps Postgres and Valkey for the home folder of its argument, until it is told to end."""

import signal
import sys
from pathlib import Path

from mesh.embedded.postgres import Postgres
from mesh.embedded.supervisor import Supervisor
from mesh.embedded.valkey import Valkey


def main() -> None:
    """Print the servers' addresses when they answer, then wait."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    home = Path(sys.argv[1])
    with Supervisor() as supervisor:
        postgres, valkey = Postgres(home), Valkey(home)
        postgres.prepare()
        supervisor.add(postgres.part(), valkey.part())
        supervisor.wait_ready()
        sys.stdout.write(f"{postgres.url} {valkey.url}\n")
        sys.stdout.flush()
        supervisor.wait()


if __name__ == "__main__":
    main()
