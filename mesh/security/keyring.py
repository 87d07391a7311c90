"""The server's secrets: what API keys are stored under, and what cursors and tickets are sealed with.

`MESH_SECRETS` reads `v2:<secret>,v1:<secret>`, newest first: new things are signed by the newest, old ones are still
verified by the version they name, until that version is taken out.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from mesh.errors import ConfigurationError

LEAST_LENGTH = 32  # characters; 32 of base64url hold 192 bits

_HOW = "e.g. MESH_SECRETS=v1:$(openssl rand -hex 32)"


@dataclass(frozen=True, slots=True)
class Keyring:
    """Versioned secrets; each purpose signs in a space of its own."""

    _secrets: dict[str, bytes]
    newest: str

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """Read `v2:<secret>,v1:<secret>`, newest first.

        Raises:
            ConfigurationError: it is empty or malformed; the message holds no secret.
        """
        if not text.strip():
            raise ConfigurationError(f"MESH_SECRETS is not set: give a server secret, {_HOW}.")
        entries = [entry.strip().partition(":") for entry in text.split(",")]
        if not all(version and secret for version, _, secret in entries):
            raise ConfigurationError(f"MESH_SECRETS must read `version:secret`, separated by commas, {_HOW}.")
        secrets = {version: secret.encode() for version, _, secret in entries}
        if len(secrets) < len(entries):
            raise ConfigurationError("MESH_SECRETS names a version twice.")
        if any(len(secret) < LEAST_LENGTH for secret in secrets.values()):
            raise ConfigurationError(f"A secret in MESH_SECRETS is shorter than {LEAST_LENGTH} characters, {_HOW}.")
        return cls(secrets, entries[0][0])

    def sign(self, purpose: str, message: str, version: str | None = None) -> bytes:
        """HMAC-SHA256 of `message` for `purpose`, under the secret of `version` (default: the newest).

        Raises:
            KeyError: there is no such version.
        """
        return hmac.digest(self._secrets[version or self.newest], f"{purpose}\0{message}".encode(), "sha256")

    def holds(self, purpose: str, message: str, digest: bytes, version: str) -> bool:
        """Whether `digest` is that of `message`, in constant time; False for a version that was taken out."""
        return version in self._secrets and hmac.compare_digest(self.sign(purpose, message, version), digest)

    def seal(self, purpose: str, value: str, scope: str) -> str:
        """`value` with a signature that holds for `scope` only, as text that may stand in an address."""
        digest = self.sign(purpose, f"{value}\0{scope}")
        return urlsafe_b64encode(digest + f"{self.newest} {value}".encode()).decode().rstrip("=")

    def open(self, purpose: str, sealed: str, scope: str) -> str | None:
        """What was sealed for `scope`; None when it was not, or not here."""
        try:
            data = urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            version, _, value = data[32:].decode().partition(" ")
        except ValueError:
            return None
        return value if self.holds(purpose, f"{value}\0{scope}", data[:32], version) else None
