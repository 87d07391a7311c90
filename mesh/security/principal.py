"""Principal: who calls, and with what rights.

api.auth makes one a request (by `keys`), `policy` decides what it may do, services ask it what is its own.
"""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What kind of caller holds a key."""

    USER = "user"
    SERVICE = "service"
    ADMIN = "admin"


class Scope(StrEnum):
    """What a key was made for; see `policy` for what each allows."""

    READ = "read"
    WRITE = "write"
    CREATE = "create"
    DELETE = "delete"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller; `networks` are the ids granted to a service key beside the user's own."""

    user_id: str
    role: Role
    scopes: frozenset[Scope]
    key_id: str | None = None
    networks: frozenset[str] = frozenset()

    @property
    def is_admin(self) -> bool:
        """Whether it may see and change what belongs to others: the scope counts only with the role."""
        return self.role is Role.ADMIN and Scope.ADMIN in self.scopes


# Who acts when MESH_AUTH=local and a request brings no credentials.
LOCAL = Principal("local", Role.USER, frozenset(Scope) - {Scope.ADMIN})
