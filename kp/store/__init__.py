"""Steps and their identities, their files, and random draws."""
