"""What is asked of a list, and how far it has changed."""
