"""Command lines; the only place where adapters meet ports."""
