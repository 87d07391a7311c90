"""Amounts of money in requests: exact to nine decimals, and never more than was asked for."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from api.schemas.base import Budget

AMOUNT: TypeAdapter[Decimal] = TypeAdapter(Budget)


@given(st.integers(0, 10**15).map(lambda millionths: millionths / 10**6))
def test_an_amount_is_the_decimal_that_it_reads_as(given_: float) -> None:
    assert AMOUNT.validate_python(given_) == Decimal(str(given_))


@given(st.floats(0, 1e9))
def test_what_lies_beyond_nine_decimals_is_cut_off(given_: float) -> None:
    taken = AMOUNT.validate_python(given_)
    assert 0 <= Decimal(str(given_)) - taken < Decimal("1e-9")
    assert taken == round(taken, 9)


@pytest.mark.parametrize("given_", [-1e-9, 1e9 + 1, True, "5", float("nan"), float("inf")])
def test_what_is_no_amount_is_refused(given_: object) -> None:
    with pytest.raises(ValidationError):
        AMOUNT.validate_python(given_)
