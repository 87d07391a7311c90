"""One system for all tests that leave it healthy, and nginx before it; a module may have an `up` of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.site import Site, nginx, program
from tests.sandbox import Sandbox, start_sandbox
from tests.system import Client, Up, mesh_up


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    """The provider of `up`; tests take `sandbox`."""
    with start_sandbox() as running:
        yield running


@pytest.fixture(scope="session")
def up(shared_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A whole system."""
    with mesh_up(tmp_path_factory.mktemp("system") / "home", shared_sandbox.env) as running:
        yield running


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    """The provider, without calls, faults and latency."""
    shared_sandbox.clear()
    shared_sandbox.clear_faults()
    shared_sandbox.latency(0)
    return shared_sandbox


@pytest.fixture(scope="session")
def nginx_program() -> str:
    """Where nginx is; before anything is started for it in vain."""
    return program("nginx", "nginx-light")


@pytest.fixture(scope="session")
def proxy(nginx_program: str, up: Up) -> Iterator[tuple[Client, Path]]:
    """The system through nginx, and the folder of its logs."""
    with nginx(nginx_program, up.url) as (url, logs), Client(url) as client:
        yield client, logs


@pytest.fixture
def site(proxy: tuple[Client, Path], up: Up, sandbox: Sandbox) -> Site:
    """The system as its users reach it."""
    client, logs = proxy
    return Site(up, sandbox, client, logs)
