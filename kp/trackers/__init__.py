"""W&B, MLflow and TensorBoard receive trials as they run; kp.trackers.registry opens those that a study names."""
