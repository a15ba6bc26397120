"""All that runs untrusted code. It knows no framework and nothing else of the project."""
