"""The HTTP client of LiteLLM's own providers (Anthropic, Gemini, Groq), which sends a request once.

litellm_calls -> LiteLLM -> here.  Imported only after LiteLLM was set up.
"""

from typing import NoReturn

import httpx
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

# The whole call is bounded by its caller, and a stream may pause for long; only nobody's address is given up sooner.
_TIMEOUT = httpx.Timeout(None, connect=10)


class OneRequest(AsyncHTTPHandler):
    """LiteLLM's client, one for all calls: by itself Gemini would get one, with connections, for each time-out."""

    def __init__(self) -> None:
        super().__init__(timeout=_TIMEOUT)

    async def single_connection_post_request(self, *_: object, **__: object) -> NoReturn:
        """Where LiteLLM sends a request again after its connection broke: two requests, and one row of the ledger."""
        raise httpx.NetworkError("The connection broke.")


# One for the process, as LiteLLM's own are: its connections are those of the loop that uses it.
CLIENT = OneRequest()
