"""The README names only what is there; that its session works is a test of its own (tests/e2e/test_readme.py)."""

import re
import shlex
from pathlib import Path

import click
import pytest

from mesh.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()

SHELL_LINES = {
    line: None
    for page in PAGES
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
}


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", README))))
def test_files_to_read_are_there(file: str) -> None:
    assert (ROOT / file).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("line", [line for line in SHELL_LINES if re.match(r"(\w+=\S+ )*make ", line)])
def test_make_targets_that_are_named_exist(line: str) -> None:
    target = line.partition("make ")[2].split()[0]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", [line for line in SHELL_LINES if line.startswith(".venv/bin/mesh ")])
def test_commands_that_are_named_take_what_they_are_given(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "product.json").touch()
    monkeypatch.chdir(tmp_path)
    _, *words = shlex.split(line, comments=True)
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found, line
        command, words = found, words[1:]
    command.make_context("mesh", words)  # parses, and runs nothing
