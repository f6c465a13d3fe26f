"""Greedy answers and likelihoods from a model; kp.generation.protocol says what a generator is, apart from the engines."""
