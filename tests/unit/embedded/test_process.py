"""Log tails and socket paths, without any process."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mesh.embedded.postgres import SOCKET_NAME, SOCKET_PATH_LIMIT_BYTES, socket_folder
from mesh.embedded.process import PORTS, tail
from mesh.errors import ConfigurationError


def test_a_tail_begins_after_what_an_earlier_run_wrote(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    log.write_text("old\n")
    offset = log.stat().st_size
    log.write_text("old\n" + "".join(f"{number}\n" for number in range(20)))
    assert tail(log, offset=offset, lines=3) == "17\n18\n19"
    assert "old" not in tail(log, offset=offset, lines=100)


def test_a_tail_of_a_log_that_was_set_aside_meanwhile_is_that_of_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "part.log").write_text("new\n")
    assert tail(tmp_path / "part.log", offset=1_000) == "new"


def test_no_log_has_an_empty_tail(tmp_path: Path) -> None:
    assert tail(tmp_path / "part.log") == ""


@pytest.mark.parametrize("length", [20, 88, 89, 90, 200])
def test_a_socket_path_never_exceeds_what_systems_allow(length: int) -> None:
    folder = Path("/" + "ü" * (length // 2) + "x" * (length % 2))
    with TemporaryDirectory() as temporary:
        sockets = socket_folder(folder, temporary=Path(temporary))
        assert len(os.fsencode(sockets / SOCKET_NAME)) <= SOCKET_PATH_LIMIT_BYTES
        assert (sockets == folder) == (length < 89)


def test_a_short_socket_folder_that_others_prepared_is_refused(tmp_path: Path) -> None:
    folder = Path("/home") / ("long" * 40)
    socket_folder(folder, temporary=tmp_path).chmod(0o777)
    with pytest.raises(ConfigurationError):
        socket_folder(folder, temporary=tmp_path)


def test_ports_are_none_that_the_system_gives_to_outgoing_connections() -> None:
    assert max(PORTS) < 32_768
