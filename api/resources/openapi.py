"""The interface's own document: /openapi.json for programs, /docs for people.

Both are made once a process, from the code; the page works offline, and no script is in it.
"""

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

from flask import Blueprint, Response, current_app, render_template, request
from flask.blueprints import BlueprintSetupState
from markupsafe import Markup, escape

from api.openapi import as_text, document
from api.request import no_parameters

blueprint = Blueprint("openapi", __name__)

_STYLE = files("api").joinpath("templates/docs.css").read_text()
# What somebody tries out in the page's console may ask this very interface, and nobody else.
_POLICY = (
    "default-src 'none'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@blueprint.get("/openapi.json", endpoint="document")
def document_() -> Response:
    """This document: OpenAPI 3.1 of the whole interface."""
    no_parameters()
    return _cached(_document(), "application/json")


@blueprint.get("/docs")
def docs() -> Response:
    """The same as a page to read."""
    no_parameters()
    response = _cached(_page(), "text/html")
    response.headers["Content-Security-Policy"] = _POLICY.format(b64encode(sha256(_STYLE.encode()).digest()).decode())
    return response


@blueprint.record_once
def _prepare(state: BlueprintSetupState) -> None:
    """JSON on the page keeps the document's order, which is that of the code."""
    state.app.jinja_env.policies["json.dumps_kwargs"] = {"sort_keys": False}


@blueprint.app_template_filter("marked")
def _marked(text: str) -> Markup:
    """The little Markdown that descriptions use: code between backticks."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped above


@cache
def _document() -> str:
    return as_text(document(current_app))


@cache
def _page() -> str:
    return render_template("docs.html", document=document(current_app), style=_STYLE)


def _cached(text: str, mimetype: str) -> Response:
    """To be asked for again each time, and sent again only if it is another."""
    response = Response(text, mimetype=mimetype, headers={"Cache-Control": "no-cache"})
    response.set_etag(sha256(text.encode()).hexdigest())
    response.make_conditional(request)
    return response
