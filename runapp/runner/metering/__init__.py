"""What runs use, by control groups or by the tree of processes."""
