"""Groq: chosen for its speed, and called with nothing special.

LiteLLM asks it for a plain answer where a schema and a stream are wanted together, and makes the pieces itself.
"""

from mesh.models.providers._base import common as arguments

__all__ = ["arguments"]
