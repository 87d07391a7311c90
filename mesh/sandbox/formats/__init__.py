"""The wire formats of the four providers, and the paths that they are served on."""

from mesh.sandbox.exchange import Format, Provider
from mesh.sandbox.formats.anthropic import Anthropic
from mesh.sandbox.formats.embeddings import Embeddings, GeminiEmbeddings
from mesh.sandbox.formats.gemini import Gemini
from mesh.sandbox.formats.openai import Groq, OpenAI

FORMATS: dict[Provider, Format] = {"anthropic": Anthropic(), "openai": OpenAI(), "gemini": Gemini(), "groq": Groq()}

PATHS: dict[str, tuple[Provider, Format]] = {
    "/anthropic/v1/messages": ("anthropic", FORMATS["anthropic"]),
    "/openai/v1/chat/completions": ("openai", FORMATS["openai"]),
    "/openai/v1/embeddings": ("openai", Embeddings()),
    "/gemini/v1beta/models/{call}": ("gemini", FORMATS["gemini"]),
    "/gemini/v1beta/openai/embeddings": ("gemini", GeminiEmbeddings()),
    "/groq/openai/v1/chat/completions": ("groq", FORMATS["groq"]),
}

# What each client library takes as its base address.
BASES: dict[Provider, str] = {
    "anthropic": "/anthropic",
    "openai": "/openai/v1",
    "gemini": "/gemini/v1beta",
    "groq": "/groq/openai/v1",
}
