"""How a sandbox is set up at its start; pace and fault rules can be changed while it runs."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from mesh.sandbox.faults import Rule


class Pace(BaseModel):
    """How fast it answers, in seconds: to the first byte, at random up to so much more, and between chunks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latency_seconds: float = Field(0.0, ge=0)
    jitter_seconds: float = Field(0.0, ge=0)
    chunk_latency_seconds: float = Field(0.0, ge=0)


@dataclass(frozen=True)
class SandboxConfig:
    """Address, pace, fault rules, the file that calls are appended to, and the seed of all chance. Port 0: any free."""

    host: str = "127.0.0.1"
    port: int = 0
    pace: Pace = field(default_factory=Pace)
    rules: tuple[Rule, ...] = ()
    log: Path | None = None
    seed: int = 0
