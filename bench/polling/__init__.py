"""What a poller's requests cost with 1,000 to 100,000 folds, beside a plain serializer."""
