"""Direct generation: what may be asked."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from api.schemas.base import Asked, Name, NetworkId, Parameters
from api.schemas.networks import ModelSelection
from mesh.generate.views import DEFAULT_MAX_TOKENS, NewGeneration

Text = Annotated[str, StringConstraints(min_length=1, max_length=200_000, pattern=r"\S")]


class Generate(Asked):
    """POST /generate/stream."""

    prompt: Text
    system: Text | None = None
    model: Name | None = Field(None, description="goes before `model_selection.model`")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: int = Field(DEFAULT_MAX_TOKENS, ge=1, le=1_000_000)
    model_selection: ModelSelection = ModelSelection()
    network_id: NetworkId | None = Field(None, description="for whose budget and statistics; must be the caller's own")

    def to_domain(self) -> NewGeneration:
        """The same for the service."""
        return NewGeneration(
            prompt=self.prompt,
            system=self.system,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            model=self.model,
            model_selection=self.model_selection.given(),
            network_id=self.network_id,
        )


class GenerateParameters(Parameters):
    """The query string of POST /generate/stream."""

    format: Literal["sse", "ndjson"] | None = None
