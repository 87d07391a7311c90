"""Benchmarks: ratios against a control in the same run, never timed tests.  `make bench` runs `tests.load.bench`."""
