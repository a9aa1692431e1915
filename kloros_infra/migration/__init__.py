"""Other programs' stores and configurations → models.yaml, and a compiled catalog → theirs; no I/O."""
