"""Readers of the packages that the built-in facts come from, one module a domain."""
