"""The Ray cluster of a study: found or started, looked at, and divided."""
