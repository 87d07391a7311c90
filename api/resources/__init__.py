"""Views, one module a resource: parse, call one service, answer.  Their blueprints are wired in `api.app`."""
