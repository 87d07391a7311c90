"""create_app: the one place that wires the interface together.

request (id, body) -> auth (who, what) -> a view of `resources` -> one service of `mesh` -> answers; errors -> problems.
"""

from typing import TYPE_CHECKING

from flask import Flask

from api import auth, context, errors, request, usage
from api.cursors import Cursors
from api.resources import (
    agents,
    budgets,
    generate,
    health,
    memory,
    networks,
    openapi,
    security,
    stats,
    streams,
    tasks,
    tickets,
)
from mesh.security import policy
from mesh.security.keyring import Keyring

if TYPE_CHECKING:
    from mesh.bootstrap import Mesh

BASE = "/api/mesh"


def create_app(mesh: "Mesh") -> Flask:
    """The WSGI application on top of `mesh`.

    Raises:
        ConfigurationError: no secret is set, or the routes and the table of operations differ.
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = errors.MAX_BODY_BYTES
    app.url_map.merge_slashes = False  # an address with two slashes is another address: 404, no redirect
    context.install(app, mesh, Cursors(Keyring.parse(mesh.settings.secrets.get_secret_value())))
    errors.install(app)
    request.install(app)
    auth.install(app)
    usage.install(app, mesh)
    for blueprint in (
        networks.blueprint,
        agents.blueprint,
        tasks.blueprint,
        memory.blueprint,
        tickets.blueprint,
        budgets.blueprint,
        stats.blueprint,
        generate.blueprint,
        security.blueprint,
        health.blueprint,
        openapi.blueprint,
    ):
        app.register_blueprint(blueprint, url_prefix=BASE)
    app.register_blueprint(streams.blueprint(mesh))
    policy.check(rule.endpoint for rule in app.url_map.iter_rules())
    return app
