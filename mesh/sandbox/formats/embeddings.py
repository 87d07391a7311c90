"""Embeddings in OpenAI's format, as OpenAI has them and, beside its own, Gemini."""

from mesh.sandbox.content.vectors import vector
from mesh.sandbox.exchange import Answer, Ask, BadRequestError, Json
from mesh.sandbox.formats.openai import OpenAI

# Without `dimensions`; of models that are not here, as of a small one on a server of one's own.
DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "gemini-embedding-001": 3072}
SMALL = 384


class Embeddings(OpenAI):
    """`POST /openai/v1/embeddings`."""

    def parse(self, body: Json, call: str) -> Ask:
        """Read a request; each text counts as a message of the user."""
        del call  # the model stands in the body
        texts = [body["input"]] if isinstance(body.get("input"), str) else body.get("input")
        if not body.get("model") or not texts or not all(isinstance(text, str) and text for text in texts):
            raise BadRequestError("'model' and 'input' are required: a text or a list of texts, none of them empty.")
        dimensions = int(body.get("dimensions") or DIMENSIONS.get(body["model"], SMALL))
        spoken = tuple(("user", text) for text in texts)
        return Ask(str(body["model"]), stream=False, messages=spoken, dimensions=dimensions)

    def plain(self, ask: Ask, answer: Answer) -> Json:
        """A list of vectors."""
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": self.vector(text, ask.dimensions or SMALL)}
                for index, (_, text) in enumerate(ask.messages)
            ],
            "model": ask.model,
            "usage": {"prompt_tokens": answer.prompt_tokens, "total_tokens": answer.prompt_tokens},
        }

    def vector(self, text: str, dimensions: int) -> list[float]:
        """One of unit length."""
        return vector(text, dimensions)


class GeminiEmbeddings(Embeddings):
    """`POST /gemini/v1beta/openai/embeddings`."""

    def vector(self, text: str, dimensions: int) -> list[float]:
        """One that is of unit length only if it was not shortened."""
        length = 1 if dimensions == max(DIMENSIONS.values()) else 0.7
        return [value * length for value in vector(text, dimensions)]
