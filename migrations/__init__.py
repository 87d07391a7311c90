"""Alembic's environment and versions; shipped as a package so that `mesh migrate` finds it anywhere."""
