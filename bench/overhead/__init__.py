"""A fold's overhead, beside other ways to train it; see `__main__.py`."""
