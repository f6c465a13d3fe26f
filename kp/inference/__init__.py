"""Questions in, judged answers out: the Ray Data pipeline and the actors that evaluate."""
