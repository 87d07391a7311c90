"""Direct generation: one prompt to the models, its text streamed to the caller.  Nothing of it is stored but its cost.

API: service (admits, sends the job) -> broker -> worker: runner (gateway, books) -> wire -> Pub/Sub -> API's stream.
"""
