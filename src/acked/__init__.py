"""A task queue that finishes what it started."""
