"""Benchmarks run with lm-eval, and a scorer that reads a shared context only once."""
