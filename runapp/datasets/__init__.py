"""Raw data: posted, split, shared, cross-validated, removed."""
