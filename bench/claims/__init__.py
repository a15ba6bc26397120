"""What a claim costs, and how that grows with the number of waiting folds."""
