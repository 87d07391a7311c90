"""Addresses of the database that cannot be used."""

from traceback import format_exception

import pytest

from mesh.db.engine import create
from mesh.errors import ConfigurationError


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "postgresql:hunter2",
        "postgresql://mesh:hunter2@host:port/mesh",
        "://mesh:hunter2@host/mesh",
        "mysql://mesh:hunter2@host/mesh",
    ],
)
def test_an_address_that_cannot_be_read_is_said_in_one_line_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="MESH_DATABASE_URL") as refused:
        create(url, name="test")
    assert "hunter2" not in "".join(format_exception(refused.value))
