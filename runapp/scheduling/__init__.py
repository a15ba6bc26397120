"""Which fold is next, who holds it, how its attempts end and what that costs its account."""
