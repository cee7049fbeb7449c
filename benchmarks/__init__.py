"""The benchmark: acked on each broker beside other queues there, and the engine's own limit.

`python -m benchmarks` runs it; docs/benchmarks.md says how each figure is taken.
"""
