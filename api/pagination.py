"""Lists: pages of at most 200, newest first; each tells where the next one begins."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from flask import Response, request

from api.answers import answer
from api.context import cursors, principal
from api.schemas.base import Page, Paging

View = TypeVar("View")


def page(
    model: type[Page[Any]],
    query: Paging,
    fetch: Callable[[int, str | None], Sequence[View]],
    id_of: Callable[[View], str],
    *,
    ranked: bool = False,
) -> Response:
    """The page that `query` asks for; `fetch(limit, before)` gets views, newest first, with ids below `before`.

    A `ranked` list is in another order: it is one page, and no cursor goes on with it.

    Raises:
        InvalidCursorError: the cursor is not one of this list with these filters.
    """
    scope = _scope(query)
    before = cursors().open(query.cursor, scope) if query.cursor is not None else None
    found = fetch(query.limit + 1, before)
    items = found[: query.limit]
    following = cursors().seal(id_of(items[-1]), scope) if len(found) > query.limit and not ranked else None
    return answer(model, {"items": items, "next_cursor": following})


def _scope(query: Paging) -> str:
    """The list itself: whose, which route, what in the path, which filters."""
    filters = query.model_dump(mode="json", exclude={"limit", "cursor"})
    return json.dumps([principal().user_id, request.endpoint, request.view_args, filters], sort_keys=True)
