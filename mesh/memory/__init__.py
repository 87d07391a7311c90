"""Shared memory: facts, context, decisions and feedback that agents of a network build on."""
