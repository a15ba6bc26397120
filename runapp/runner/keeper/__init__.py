"""The warm process that forks a child for every run, its launch, and its handle."""
