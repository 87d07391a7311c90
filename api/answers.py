"""Answers: a service's view as JSON, by the model that documents it."""

from collections.abc import Mapping

from flask import Response
from pydantic import BaseModel


def answer(
    model: type[BaseModel], view: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`view` (an object with the model's fields as attributes, or a mapping) as the model's JSON."""
    data = model.model_validate(view, from_attributes=True).model_dump_json()
    return Response(data, status, headers, mimetype="application/json")


def made(model: type[BaseModel], view: object, location: str, status: int = 201) -> Response:
    """The same for something new, which from now on is at `location` (below `/api/mesh`)."""
    return answer(model, view, status, {"Location": f"/api/mesh{location}"})
