"""Settings: environment variables, read once, in this place only, and passed in from then on."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mesh.errors import ConfigurationError

PROVIDERS = ("anthropic", "openai", "gemini", "groq")

# What MESH_EMBEDDINGS may say beside the names of models that a provider charges for.
WITHOUT_PROVIDER = ("auto", "local", "off")


class Settings(BaseSettings):
    """Everything that can be configured; `mesh config` prints it without the secrets."""

    model_config = SettingsConfigDict(env_prefix="MESH_", frozen=True, extra="ignore", populate_by_name=True)

    database_url: str = Field("", description="PostgreSQL, e.g. postgresql://user:password@host/mesh")
    redis_url: str = Field("", description="Redis or Valkey, e.g. redis://:password@host:6379/0")
    broker_url: str = Field("", description="Celery's broker; default: MESH_REDIS_URL")
    home: Path = Field(Path(".mesh"), description="folder for what `mesh up` keeps: data, keys, logs")
    host: str = Field("127.0.0.1", description="address that the API listens on")
    port: int = Field(8080, ge=1, le=65535, description="port that the API listens on")
    auth: Literal["keys", "local"] = Field("keys", description="`local`: no credentials needed, loopback only")
    secrets: SecretStr = Field(
        SecretStr(""), description="keyring for API keys: `v2:<secret>,v1:<secret>`, newest first"
    )
    models_file: Path | None = Field(None, description="TOML file that extends the model catalogue")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level logged")
    sandbox: bool = Field(False, description="allow running without a real provider, against `mesh sandbox`")

    embeddings: str = Field(
        "auto",
        min_length=1,
        description="search of memory by meaning: `local` needs the extra, `auto` uses it where it is there, `off`, "
        "or an embedding model of the catalogue, which its provider charges for",
    )
    generate_per_user: int = Field(4, ge=1, description="direct generations at once for a user, over all processes")

    anthropic_api_key: SecretStr | None = Field(None, alias="ANTHROPIC_API_KEY", description="Anthropic's key")
    openai_api_key: SecretStr | None = Field(None, alias="OPENAI_API_KEY", description="OpenAI's key")
    gemini_api_key: SecretStr | None = Field(None, alias="GEMINI_API_KEY", description="Google Gemini's key")
    groq_api_key: SecretStr | None = Field(None, alias="GROQ_API_KEY", description="Groq's key")
    anthropic_api_base: str | None = Field(None, alias="ANTHROPIC_API_BASE", description="Anthropic's address (root)")
    openai_api_base: str | None = Field(None, alias="OPENAI_API_BASE", description="OpenAI-compatible address (.../v1)")
    gemini_api_base: str | None = Field(None, alias="GEMINI_API_BASE", description="Gemini's address (.../v1beta)")
    groq_api_base: str | None = Field(None, alias="GROQ_API_BASE", description="Groq's address (.../openai/v1)")

    @property
    def effective_broker_url(self) -> str:
        """Where Celery's messages go: `broker_url`, or Redis."""
        return self.broker_url or self.redis_url


def load() -> Settings:
    """Read the environment.

    Raises:
        ConfigurationError: names each variable that cannot be read, and why, without its value.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(f"{_variable(str(e['loc'][0]))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ConfigurationError(f"Settings cannot be read. {faults}") from None


def _variable(field: str) -> str:
    return field if field.isupper() else f"MESH_{field.upper()}"
