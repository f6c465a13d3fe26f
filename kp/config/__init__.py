"""The study file: its sections, their validation, and what follows from them."""
