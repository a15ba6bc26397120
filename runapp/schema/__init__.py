"""The OpenAPI document: what each endpoint takes and answers, told beside the views.

To describe an endpoint: give each new column a shape in `columns.py`, each field of a new body a
refinement in `bodies.py` where its type does not say enough, and each method of the view an
`Operation` in a module like `datasets.py`. A method without one fails the tests.
"""
