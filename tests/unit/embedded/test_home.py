"""The home folder is private, and so is what is kept in it."""

from pathlib import Path

import pytest

from mesh.embedded.home import kept, private_folder, write_private
from mesh.errors import ConfigurationError


def test_a_new_home_is_its_owners_alone(tmp_path: Path) -> None:
    assert private_folder(tmp_path / "a" / "home").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_use_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """`--home /tmp` must not shut others out of /tmp."""
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigurationError, match="yours alone"):
        private_folder(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigurationError, match="home"):
        private_folder(tmp_path / "home")


def test_a_kept_value_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    values = iter(["first", "second"])
    assert [kept(tmp_path / "secret", lambda: next(values)) for _ in range(2)] == ["first", "first"]
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_writing_again_replaces_the_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    for text in ("a long first text", "short"):
        write_private(tmp_path / "secret", text)
    assert (tmp_path / "secret").read_text() == "short\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "secret"]
