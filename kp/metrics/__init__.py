"""Pure: tables in, tables out. What counts as right, how well a fact is known, what moved."""
