"""The number of every change that clients see, and what is counted with it."""
