"""The board without Redis: what each rule lets through."""

from mesh.models.board import Board, Entry
from mesh.testing import AwayRedis
from tests.unit.models.timeline import Timeline


def test_what_is_due_goes_to_one_and_what_is_not_on_the_board_to_nobody() -> None:
    timeline = Timeline()
    board = Board(AwayRedis(), monotonic=timeline)
    assert not board.put("one", "tried", 60, rule="due")
    assert board.put("one", "left alone", 30)
    assert not board.put("one", "tried", 60, rule="due")
    timeline.advance(30)
    assert [board.put("one", "tried", 60, rule="due") for _ in range(3)] == [True, False, False]
    assert board.entry("one") == Entry("tried", timeline() + 60)


def test_only_what_is_longer_replaces_an_instant() -> None:
    board = Board(AwayRedis(), monotonic=Timeline())
    assert [board.put("one", "rest", seconds, rule="longer") for seconds in (20, 5, 30)] == [True, False, True]
    assert board.seconds_left("one") == 30
    board.drop("one")
    assert board.seconds_left("one") == 0
