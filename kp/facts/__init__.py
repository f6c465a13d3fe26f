"""Facts: where they come from, what makes them valid, and how a study draws its share of them."""
