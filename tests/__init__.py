import pytest

pytest.register_assert_rewrite("tests.driver_conformance", "tests.store_conformance")
