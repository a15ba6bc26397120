"""A worker's slot: its life, a step of work, training, splits, heartbeat, fitness."""
