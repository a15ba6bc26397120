"""What a worker promises of every run, and trying to break it."""
