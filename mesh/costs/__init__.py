"""Costs: the ledger of model calls."""
