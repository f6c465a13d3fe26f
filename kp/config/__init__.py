"""The study file: its sections, what each refuses, and what follows from them."""
