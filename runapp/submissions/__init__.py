"""Posting folds and their code, one or many; handing out predictions."""
