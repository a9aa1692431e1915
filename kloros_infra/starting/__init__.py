"""The first models.yaml of a machine: what was found on it → a commented text. Pure."""
