"""W&B, MLflow and TensorBoard hear of trials as they run; kp.trackers.registry opens those that a study names."""
