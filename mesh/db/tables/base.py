"""What all tables share: one `MetaData` with stable constraint names, and the column kinds used everywhere."""

from typing import Any

from sqlalchemy import CheckConstraint, Column, DateTime, MetaData, Numeric, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Instant = DateTime(timezone=True)
Json = JSONB
Usd = Numeric(asdecimal=True)  # without a scale PostgreSQL keeps every digit
Texts = ARRAY(Text)


def one_of(column: str, *values: str) -> CheckConstraint:
    """A check that `column` holds one of `values`; a unit test holds them against the enums of the code."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def created_at() -> "Column[Any]":
    """The instant of a row's making; always given by the code, so that tests can pass time in."""
    return Column("created_at", Instant, nullable=False)
