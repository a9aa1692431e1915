"""Edits of models.yaml that leave every line alone which need not change: text and edits → text."""
