class Klassifier:
    """A typing error in the name."""
