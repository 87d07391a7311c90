"""The `mesh` command: one module a subcommand, each importing what is heavy only when it runs."""
