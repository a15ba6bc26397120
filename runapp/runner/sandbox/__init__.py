"""The seal of a run, and the steps into it."""
