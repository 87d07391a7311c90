"""The Celery side: jobs that call one mesh service each, and the threads beside them."""
