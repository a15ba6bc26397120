"""What was done and by whom: written once, never changed."""
