"""What a view works with: the system, the caller, and the cursors of lists, found through Flask's context."""

from typing import TYPE_CHECKING, cast

from flask import Flask, current_app, g

from api.cursors import Cursors
from mesh.security.principal import Principal

if TYPE_CHECKING:
    from mesh.bootstrap import Mesh


def install(app: Flask, system: "Mesh", cursors: Cursors) -> None:
    """Give the views of `app` what they work with."""
    app.extensions.update(mesh=system, cursors=cursors)


def mesh() -> "Mesh":
    """The system."""
    return cast("Mesh", current_app.extensions["mesh"])


def cursors() -> Cursors:
    """Makes and reads the cursors of lists."""
    return cast(Cursors, current_app.extensions["cursors"])


def principal() -> Principal:
    """Who asks; there for every operation that is not public."""
    return cast(Principal, g.principal)
