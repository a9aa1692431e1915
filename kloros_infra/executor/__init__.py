"""Perform a plan on a machine, step by step, each step with its undo."""
