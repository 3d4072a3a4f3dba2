"""Component declarations, the registry, and what is derived from them."""
