"""Base models: resolving a name, loading, and the shapes of the weights."""
