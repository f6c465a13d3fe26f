"""Facts: their sources, what makes them valid, and how a study draws from them."""
