"""Tasks: states, plans, claims, orchestration and the sweep.  Start reading at `service.submit`, then `execution`."""
