"""Events of a task: their kinds, the stored log, and the live channel that only makes them arrive sooner."""
