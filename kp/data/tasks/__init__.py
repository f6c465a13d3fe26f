"""lm-eval tasks: one YAML file each, and the Python that the YAML files name."""
