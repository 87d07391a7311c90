"""Models: the catalogue, the gateway and, behind it, the only code that calls LiteLLM."""
