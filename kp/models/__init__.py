"""Base models: which one is meant, where it is, its shape."""
