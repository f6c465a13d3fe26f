"""What one training worker does, from a trial's rows to its adapter; nothing here needs Ray."""
