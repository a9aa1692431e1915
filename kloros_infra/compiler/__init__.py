"""Pure passes from the text of models.yaml to the tree of generated files."""
