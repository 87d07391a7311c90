"""Faults struck at a running system, and what must hold after them.  `make chaos` runs the long form."""
