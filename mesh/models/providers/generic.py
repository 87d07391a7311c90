"""Any other provider that LiteLLM knows, and servers in OpenAI's format at an address of their own: nothing special."""

from mesh.models.providers._base import common as arguments

__all__ = ["arguments"]
