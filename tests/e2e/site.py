"""One system as its users reach it: the API itself, and nginx before it, set up by the very file that is handed out."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from mesh.embedded.process import free_port
from tests.sandbox import Sandbox
from tests.system import Client, Up, eventually

HANDED_OUT = Path(__file__).parents[2] / "deploy" / "nginx.conf"
MAIN = """
daemon off;
pid nginx.pid;
error_log stderr alert;
events {}
http {
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include mesh.conf;
}
"""
REQUIRED = "MESH_TEST_BROWSER"


def program(name: str, package: str) -> str:
    """Where a program is; without it the test is skipped, or fails where `MESH_TEST_BROWSER` is set."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found:
        return found
    reason = f"{name} is not installed (Debian: apt-get install {package})"
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class Site:
    """A running system; `up.url` is the API's own address, `proxy.url` that of nginx, which writes to `logs`."""

    up: Up
    sandbox: Sandbox
    proxy: Client
    logs: Path

    @contextmanager
    def without_api(self) -> Iterator[None]:
        """No API answers meanwhile: all are killed, and who would start another one at once is held."""
        os.kill(self.up.process.pid, signal.SIGSTOP)
        try:
            self.up.kill("api", whole=True)
            yield
        finally:
            os.kill(self.up.process.pid, signal.SIGCONT)
        eventually(lambda: self.up.health() == "healthy")

    def logged(self) -> str:
        """All that nginx has written down."""
        return "".join(log.read_text() for log in self.logs.glob("*.log"))


@contextmanager
def nginx(program: str, api_url: str) -> Iterator[tuple[str, Path]]:
    """An nginx of the test's own, never as root: its address, and the folder of its logs."""
    with TemporaryDirectory() as folder:
        home, url = Path(folder), f"http://127.0.0.1:{free_port()}"
        (home / "nginx.conf").write_text(MAIN)
        (home / "mesh.conf").write_text(_filled_in(HANDED_OUT.read_text(), url, api_url, home))
        user = None
        if os.geteuid() == 0:
            user = "nobody"
            shutil.chown(home, user)
        command = [program, "-e", "stderr", "-p", folder, "-c", "nginx.conf"]
        with subprocess.Popen(command, user=user) as process:
            try:
                eventually(lambda: _answers(url), 10, every=0.02)
                yield url, home
            finally:
                process.terminate()


def _filled_in(text: str, url: str, api_url: str, home: Path) -> str:
    address = "127.0.0.1:8080", api_url.removeprefix("http://")
    listen = "listen 80;", f"listen {url.removeprefix('http://')};"
    logs = "/var/log/nginx/", f"{home}/"
    for old, new in (address, listen, logs):
        assert old in text
        text = text.replace(old, new)
    return text


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/mesh/health/live", trust_env=False).is_success
    except httpx.TransportError:
        return False
