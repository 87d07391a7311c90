"""The sandbox's HTTP server: routes, start and stop. Start reading here; `service.py` answers the calls."""

import asyncio
import signal
from collections.abc import Callable

from aiohttp import web

from mesh.errors import ConfigurationError
from mesh.sandbox.control import routes
from mesh.sandbox.formats import FORMATS, PATHS
from mesh.sandbox.service import Service
from mesh.sandbox.settings import SandboxConfig

LARGEST_REQUEST = 64 * 2**20  # bytes; prompts of a million tokens fit
BACKLOG = 1024
GRACE_SECONDS = 0.5  # for open calls when the server stops; a hanging one would hold it for an hour


def create_app(config: SandboxConfig) -> web.Application:
    """The application; its runner must have `handler_cancellation=True`, or clients that go away stay unnoticed.

    Raises:
        ConfigurationError: the log file cannot be written.
    """
    app = web.Application(client_max_size=LARGEST_REQUEST)
    try:
        service = Service(config)
    except OSError as error:
        raise ConfigurationError(f"{config.log} cannot be written: {error.strerror}.") from error
    app.add_routes([web.post(path, service.handle) for path in PATHS])
    app.add_routes(routes(service))
    app.add_routes([web.route("*", "/{tail:.*}", _unknown)])

    async def close(_app: web.Application) -> None:
        service.calls.close()

    app.on_cleanup.append(close)
    return app


def serve(config: SandboxConfig, *, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` is called with the address once calls are taken.

    Raises:
        ConfigurationError: the address cannot be listened on, or the log file not be written.
    """
    asyncio.run(_serve(config, on_ready))


async def _serve(config: SandboxConfig, on_ready: Callable[[str], None]) -> None:
    app = create_app(config)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=GRACE_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.port, backlog=BACKLOG).start()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        host, port = runner.addresses[0][:2]
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        await stop.wait()
    except OSError as error:
        message = f"{config.host}:{config.port} cannot be listened on: {error.strerror}. Choose another --port, or 0."
        raise ConfigurationError(message) from error
    finally:
        await runner.cleanup()


async def _unknown(request: web.Request) -> web.Response:
    served = ", ".join(f"POST {path}" for path in PATHS)
    message = f"There is no {request.method} {request.path} here. Served are: {served}; GET /sandbox says more."
    format_ = next((each for name, each in FORMATS.items() if request.path.startswith(f"/{name}/")), FORMATS["openai"])
    return web.json_response(format_.error(404, "404", message, "req_sandbox"), status=404)
