"""`mesh sandbox`: run the stand-in provider."""

from pathlib import Path

import click

from mesh.errors import ConfigurationError

EXAMPLE = """\b
A faults file (TOML, or the same as JSON) holds rules; the first that fires decides:
\b
    [[faults]]                      # the second call to any Claude model meets a rate limit
    match = { provider = "anthropic", model = "claude", nth = 2 }
    fault = "429;1"                 # ... with Retry-After: 1
\b
    [[faults]]                      # one stream in ten is cut off, at most five times
    match = { stream = true }
    fault = "drop_stream"
    probability = 0.1
    times = 5

Matching goes by provider, model, header ("Name: value"), prompt, stream and nth. A single request asks for a fault by
the header `X-Sandbox-Fault: kind[;seconds]`. GET /sandbox names the kinds; PUT /sandbox/faults and /sandbox/latency
change them at run time; GET /sandbox/calls (?summary=1) tells what was called."""


@click.command("sandbox", epilog=EXAMPLE)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="Port to listen on; 0 takes any free one.")
@click.option("--latency", type=click.FloatRange(0), default=0.0, help="Seconds to the first byte.")
@click.option("--jitter", type=click.FloatRange(0), default=0.0, help="Up to so many seconds more, at random.")
@click.option("--chunk-latency", type=click.FloatRange(0), default=0.0, help="Seconds between chunks of a stream.")
@click.option("--faults", type=click.Path(dir_okay=False, path_type=Path), help="Rules for what fails; see below.")
@click.option(
    "--log", type=click.Path(dir_okay=False, path_type=Path), help="Append each call to this file, as JSON lines."
)
@click.option("--seed", default=0, show_default=True, help="Seed of jitter and of faults with a probability.")
def sandbox(
    host: str,
    port: int,
    latency: float,
    jitter: float,
    chunk_latency: float,
    faults: Path | None,
    log: Path | None,
    seed: int,
) -> None:
    """Stand in for Anthropic, OpenAI, Gemini and Groq on one local port.

    Any key is taken and nothing is paid. Replies fit whatever JSON schema is asked for; the mesh's own schemas get
    an e-mail campaign drawn from the prompt. Give the addresses that it prints to the mesh (or to LiteLLM).
    """
    # Here, so that `mesh --help` need not load a web server.
    from mesh.sandbox import faults as fault_rules
    from mesh.sandbox.server import serve
    from mesh.sandbox.settings import Pace, SandboxConfig

    pace = Pace(latency_seconds=latency, jitter_seconds=jitter, chunk_latency_seconds=chunk_latency)
    try:
        rules = tuple(fault_rules.load(faults)) if faults else ()
        serve(SandboxConfig(host, port, pace, rules, log, seed), on_ready=_announce)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error


def _announce(url: str) -> None:
    from mesh.sandbox.formats import BASES

    for provider, base in BASES.items():
        click.echo(f"{provider.upper()}_API_BASE={url}{base}")
    click.echo(f"listening on {url}")


if __name__ == "__main__":
    sandbox()
