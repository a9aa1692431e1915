"""Pure comparison of what is desired with what is observed, and the steps between them."""
