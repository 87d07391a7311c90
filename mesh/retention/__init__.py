"""Retention: removing what is no longer wanted, in batches, behind the scenes."""
