"""What is measured: one module for each question, each with `measure(plan) -> Report`."""
