"""What a budget lets pass: what fits, what has to wait for others, and what is too much."""

from decimal import Decimal

import pytest

from mesh.costs.accounts import Account, ids_of, judge
from mesh.errors import BudgetBusyError, BudgetExceededError


def account(
    limit: str, spent: str = "0", reserved: str = "0", *, name: str = "user:ann", counted: bool = True
) -> Account:
    return Account(name, Decimal(limit), Decimal(spent), Decimal(reserved), counted)


def test_a_call_may_use_a_budget_up_to_the_last_digit() -> None:
    judge([account("1", "0.5", "0.3")], Decimal("0.2"))


def test_what_only_reservations_stand_in_the_way_of_waits() -> None:
    with pytest.raises(BudgetBusyError):
        judge([account("1", "0.5", "0.3")], Decimal("0.200000000001"))


def test_what_is_spent_stays_spent() -> None:
    with pytest.raises(BudgetExceededError) as refused:
        judge([account("1", "0.5", "0.3")], Decimal("0.6"))
    assert (refused.value.needed_usd, refused.value.left_usd) == (Decimal("0.6"), Decimal("0.5"))


def test_the_tightest_of_several_decides() -> None:
    with pytest.raises(BudgetExceededError, match="network:n has 1 US dollars left"):
        judge([account("100"), account("2", "1", name="network:n")], Decimal(2))


def test_a_lowered_limit_leaves_nothing_rather_than_less() -> None:
    with pytest.raises(BudgetExceededError) as refused:
        judge([account("1", "3")], Decimal("0.1"))
    assert refused.value.left_usd == 0


def test_nothing_is_opened_under_a_budget_that_does_not_know_what_was_spent_before_it() -> None:
    with pytest.raises(BudgetBusyError):
        judge([account("100", counted=False)], Decimal("0.1"))


def test_only_what_a_call_belongs_to_is_above_it() -> None:
    assert ids_of("ann", "n", None, "t") == ["user:ann", "network:n", "task:t"]
