"""Pure functions from tables to tables: which answers are right, how well a fact is known, what training changed."""
