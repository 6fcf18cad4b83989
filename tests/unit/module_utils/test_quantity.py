from __future__ import annotations

from decimal import Decimal

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils.quantity import number, resource_problems
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("250m", "0.25"),
        ("1", "1"),
        (2, "2"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("512Mi", 512 * 1024**2),
        ("1Gi", 1024**3),
        ("2Ei", 2 * 1024**6),
        ("1k", "1000"),
        ("1E", 10**18),
        ("1e3", "1000"),
        ("12E2", "1200"),
        ("100n", "0.0000001"),
    ],
)
def test_number(quantity: object, value: object) -> None:
    assert number(quantity) == Decimal(str(value))


@pytest.mark.parametrize("text", ["", "abc", "1 Gi", "1gi", "1KiB", "Mi", "1m1", "--1", "0x10", None])
def test_no_number(text: object) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        number(text)


@given(st.integers(0, 10**9), st.sampled_from(["", "m", "k", "Mi", "Gi"]))
def test_order_is_that_of_the_digits(digits: int, suffix: str) -> None:
    assert number(f"{digits}{suffix}") < number(f"{digits + 1}{suffix}")


def test_a_limit_below_its_request_names_both_and_the_remedy() -> None:
    found = resource_problems({"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi", "cpu": "1"}}, "var")
    assert found == ["var.limits.memory is 512Mi, below var.requests.memory 1Gi; raise it or lower the request"]


def test_all_problems_at_once() -> None:
    found = resource_problems({"requests": {"cpu": "much"}, "limits": {"memory": "0"}}, "var")
    assert len(found) == 2
    assert found[0].startswith("var.requests.cpu: 'much' is not a Kubernetes quantity")
    assert found[1] == "var.limits.memory is 0; set it above 0"


def test_the_mission_s_resources_are_fine() -> None:
    assert not resource_problems(
        {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}, "var"
    )
