"""Answers: a service's view as JSON, by the model that documents it; conditional requests (RFC 9110, section 13).

An entity tag is `"<version>.<digest>"`.  The digest makes it strong: whatever changes in the answer, such as a count,
changes the tag.  What `If-Match` is held against is the version alone, since a change that is asked for conflicts with
other changes, and not with counts.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Protocol

from flask import Response, request
from pydantic import BaseModel

_TAG = re.compile(r"([0-9]{1,10})\.[0-9a-f]{16}")


class Versioned(Protocol):
    """A view of something that changes."""

    @property
    def version(self) -> int:
        """One more with every change."""


def answer(
    model: type[BaseModel], view: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`view` (an object with the model's fields as attributes, or a mapping) as the model's JSON."""
    data = model.model_validate(view, from_attributes=True).model_dump_json()
    return Response(data, status, headers, mimetype="application/json")


def made(model: type[BaseModel], view: object, location: str, status: int = 201) -> Response:
    """The same for something new, which from now on is at `location` (below `/api/mesh`)."""
    return answer(model, view, status, {"Location": f"/api/mesh{location}"})


def tagged(response: Response, view: Versioned) -> Response:
    """`response`, which shows `view`, with its entity tag; 304 without a body when the caller has it already."""
    response.set_etag(f"{view.version}.{sha256(response.get_data()).hexdigest()[:16]}")
    response.headers["Cache-Control"] = "private, no-cache"  # kept by the caller, and asked for each time
    if request.method in {"GET", "HEAD"} and request.if_none_match.contains_weak(response.get_etag()[0] or ""):
        response.status_code = 304
        response.set_data(b"")
    return response


def expected_versions() -> frozenset[int] | None:
    """Which versions the caller wants to change, by `If-Match`; None: whatever there is.

    Tags are compared strongly; one that is none of ours names no version.
    """
    if "If-Match" not in request.headers or request.if_match.star_tag:
        return None
    # Werkzeug has None for a tag without a character.
    found = map(_TAG.fullmatch, filter(None, request.if_match.as_set()))
    return frozenset(int(match[1]) for match in found if match)
