"""Tags and filters of the operators' templates."""
