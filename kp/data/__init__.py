"""Data that ships with kp: few-shot examples and the offline benchmark tasks."""
