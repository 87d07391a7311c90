"""Observability: logging (metrics and tracing stand here too, once there are any)."""
