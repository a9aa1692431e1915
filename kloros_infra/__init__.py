"""Run local language models declaratively: one models.yaml becomes units, routes and a router."""

__version__ = "0.1.0"
