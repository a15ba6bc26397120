"""The front door of the API: who asks, what is read, how errors are answered."""
