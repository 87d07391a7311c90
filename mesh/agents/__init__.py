"""Agents: what each kind knows, what a model is asked, and what its reply must look like."""
