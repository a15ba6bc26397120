"""How many folds are accepted, one by one and in bulk, and how long a post takes meanwhile."""
