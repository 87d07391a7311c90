"""Gemini: images and long prompts, both as they come.

LiteLLM turns parts `{"type": "image_url", ...}` into inline data, and the schema into `response_json_schema`.  A
reply that the safety filter blocks comes as a success without content; `litellm_calls` makes a failure of it.
"""

from mesh.models.providers._base import common as arguments

__all__ = ["arguments"]
