"""From questions to judged answers: the Ray Data pipeline, and the work that goes through it."""
