"""AI Mesh Network: the system itself, free of Flask and (but for `mesh.dispatch`) of Celery."""

__version__ = "0.1.0"
