"""What one training worker does, from a trial's rows to its adapter; all but `worker` works without Ray."""
