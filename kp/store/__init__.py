"""How steps are known, where their files are kept, and what a random draw goes by."""
