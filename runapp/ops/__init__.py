"""What operators look at, on pages and by commands: bounded reads, whatever lies in the tables."""
