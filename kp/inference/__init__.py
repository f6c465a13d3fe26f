"""From questions to judged answers: the Ray Data pipeline and the evaluating actors."""
