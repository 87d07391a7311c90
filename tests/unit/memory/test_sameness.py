"""Sameness: what differs in letters only, and what one word decides."""

import pytest

from mesh.memory.sameness import particulars, said


@pytest.mark.parametrize("other", ["Readers skim.", " readers\n\tSKIM. ", "READERS\u00a0SKIM."])
def test_case_and_white_space_make_no_difference(other: str) -> None:
    assert said(other) == said("Readers skim.")


@pytest.mark.parametrize("other", ["Readers skim", "Readers do not skim.", "Readersskim.", ""])
def test_everything_else_does(other: str) -> None:
    assert said(other) != said("Readers skim.")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("The brand's tone is dry.", []),
        ("Version 2 ships with X1, on 2026-11-22.", ["2", "X1", "2026", "11", "22"]),
        ("We don't write to Ann, and never to Bob.", ["don't", "Ann", "never", "Bob"]),
        ("Segment A converts better than segment B.", ["A", "B"]),
        ("Ann approves.", []),
    ],
)
def test_numbers_names_letters_and_negations_decide(content: str, expected: list[str]) -> None:
    assert particulars(content) == expected
