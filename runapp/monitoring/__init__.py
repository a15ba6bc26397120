"""Health, doctor and metrics."""
