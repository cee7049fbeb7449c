"""The benchmark: acked on SQLite beside Celery on Redis, huey on SQLite, and SQLite's own limit.

`python -m benchmarks` runs it; docs/benchmarks.md says how each figure is taken.
"""
