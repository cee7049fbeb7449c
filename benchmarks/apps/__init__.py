"""The same task, written once for each queue that is measured."""
