"""A small service manager for machines without systemd: it runs the same unit files."""
