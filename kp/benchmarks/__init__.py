"""Benchmarks by lm-eval, and the scorer that reads a shared context once."""
