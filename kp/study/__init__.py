"""A study from its config to its report: identities, session, plan, run."""
