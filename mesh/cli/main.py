"""`mesh`: the command line.  Subcommands are imported when they are called, so that `--help` answers at once."""

from importlib import import_module

import click

from mesh import __version__

# name -> (module in mesh.cli, what --help says).  The order is the one in which a newcomer needs them.
COMMANDS = {
    "up": "Run everything on this machine until Ctrl-C.",
    "demo": "Run everything for one email campaign, show it, and stop.",
    "run": "Give a task to a running system, show progress, print the result.",
    "api": "Serve the REST interface.",
    "worker": "Run agents' steps, or the system's own jobs.",
    "beat": "Schedule periodic jobs; several may run.",
    "sandbox": "Stand in for the model providers.",
    "migrate": "Bring the database to the newest schema.",
    "keys": "Make, list and revoke API keys.",
    "config": "Show the settings in force, without secrets.",
    "doctor": "Check that everything this machine needs is there.",
}


class _Lazy(click.Group):
    """A group whose commands live in modules of the same name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # the same
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"mesh.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # the same
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mesh")
def main() -> None:
    """AI Mesh Network: teams of language-model agents that work on tasks together.

    \b
    mesh up                        everything on one machine, at http://127.0.0.1:8080
    mesh run "Plan a newsletter"   give it a task and watch

    Settings are environment variables: `mesh config` shows them all.
    """  # noqa: D301  # click wants the character itself before lines that it must not fill
