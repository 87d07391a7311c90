"""Steering a running sandbox: `/sandbox/calls`, `/sandbox/faults`, `/sandbox/latency`.

Errors are `{"error": {"message"}}` with 400.
"""

import json
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from mesh.errors import InvalidInputError
from mesh.sandbox.faults import KINDS, rules
from mesh.sandbox.formats import BASES
from mesh.sandbox.service import Service
from mesh.sandbox.settings import Pace


def routes(service: Service) -> list[web.RouteDef]:
    """The control routes of `service`."""
    control = _Control(service)
    return [
        web.get("/sandbox", control.show),
        web.get("/sandbox/calls", control.calls),
        web.delete("/sandbox/calls", control.clear_calls),
        web.get("/sandbox/faults", control.show_faults),
        web.put("/sandbox/faults", control.replace_faults),
        web.post("/sandbox/faults", control.add_faults),
        web.delete("/sandbox/faults", control.clear_faults),
        web.put("/sandbox/latency", control.change_pace),
    ]


class _Control:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def show(self, _request: web.Request) -> web.Response:
        pace = self._service.pace.model_dump()
        return web.json_response({"bases": BASES, "pace": pace, "fault_kinds": {k: v[2] for k, v in KINDS.items()}})

    async def calls(self, request: web.Request) -> web.Response:
        calls = self._service.calls
        if request.query.get("summary", "") not in ("", "0"):
            return web.json_response(calls.summary())
        return web.json_response(calls.as_json())

    async def clear_calls(self, _request: web.Request) -> web.Response:
        self._service.calls.clear()
        return web.Response(status=204)

    async def show_faults(self, _request: web.Request) -> web.Response:
        return web.json_response({"faults": self._service.faults.as_json()})

    async def replace_faults(self, request: web.Request) -> web.Response:
        try:
            self._service.faults.replace(rules(await _body(request)))
        except InvalidInputError as error:
            return _bad(str(error))
        return await self.show_faults(request)

    async def add_faults(self, request: web.Request) -> web.Response:
        try:
            self._service.faults.add(rules(await _body(request)))
        except InvalidInputError as error:
            return _bad(str(error))
        return await self.show_faults(request)

    async def clear_faults(self, _request: web.Request) -> web.Response:
        self._service.faults.replace([])
        return web.Response(status=204)

    async def change_pace(self, request: web.Request) -> web.Response:
        try:
            changes = await _body(request)
            self._service.pace = Pace.model_validate(self._service.pace.model_dump() | dict(changes))
        except (InvalidInputError, ValidationError, TypeError, ValueError):
            return _bad(f"Send an object with any of {', '.join(Pace.model_fields)}, each a number of at least 0.")
        return web.json_response(self._service.pace.model_dump())


async def _body(request: web.Request) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return json.loads(await request.read())
    except ValueError:
        raise InvalidInputError("The body is not JSON.") from None


def _bad(message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=400)
