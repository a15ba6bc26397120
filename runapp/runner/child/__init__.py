"""What runs in the fork, where participant code shares its process."""
