"""What earlier trials say of trials to come: their experience as a table, a model of it with its errors, and advice with intervals."""
