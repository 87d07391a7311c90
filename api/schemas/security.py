"""API keys: what may be asked and what is answered."""

from pydantic import Field

from api.schemas.base import Answer, Asked, Instant, NetworkId, Paging, UserId
from mesh.security.keys import DEFAULT_EXPIRY_DAYS
from mesh.security.principal import Role, Scope


class CreateKey(Asked):
    """POST /security/api-keys."""

    user_id: UserId
    role: Role = Role.USER
    scopes: list[Scope] = Field([Scope.READ], min_length=1, max_length=len(Scope))
    name: str = Field("", max_length=200)
    networks: list[NetworkId] = Field(default_factory=list, max_length=1_000)
    expires_in_days: int = Field(DEFAULT_EXPIRY_DAYS, ge=1, le=3_650)


class ListKeys(Paging):
    """GET /security/api-keys."""

    user_id: UserId | None = None


class Key(Answer):
    """A key without its secret."""

    key_id: str
    user_id: str
    role: Role
    scopes: list[Scope]
    name: str
    networks: list[str]
    created_at: Instant
    expires_at: Instant
    last_used_at: Instant | None
    revoked_at: Instant | None


class NewKey(Key):
    """A key just made, with its secret for this once."""

    api_key: str | None = Field(description="null when this answer is given again: a secret is shown once")
