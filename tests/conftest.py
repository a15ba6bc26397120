"""What holds for all tests."""

import pytest

# Their asserts explain themselves as those of the tests do.
pytest.register_assert_rewrite("tests.functional.account", "tests.functional.service")
