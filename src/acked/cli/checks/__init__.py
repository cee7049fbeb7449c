"""What `acked doctor` looks at. Each check is a function of facts to findings."""
