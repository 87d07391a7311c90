"""Postgres and Valkey as child processes, and the supervisor that keeps them and the service's own processes alive.

Used by `mesh up` and by tests; nothing else imports it.
"""
