"""The resident router: one event loop owns all state; the outside is reached through ports."""
