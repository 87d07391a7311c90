"""The stand-in provider: Anthropic, OpenAI, Gemini and Groq on one local port, with latency and faults on demand.

Nothing of the mesh imports it but the command line and tests; it knows nothing of the mesh but two schema names.
"""
