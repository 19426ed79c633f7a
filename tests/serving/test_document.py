"""The API answers as its own OpenAPI document says, whatever is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from browsing import Material, start
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def document(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    server = start(f"checkpoint={material.rgb_model}", temporary=tmp_path_factory.mktemp("document"), name="serve")
    yield schemathesis.openapi.from_url(f"{server.address}/api/v1/openapi.json")
    log = (server.temporary / "log").read_text()
    assert server.stop() == 0 and "Traceback" not in log


def test_every_answer_is_one_that_the_document_names(document: Any) -> None:
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) == 7
    for operation in operations:

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(excluded_checks=[positive_data_acceptance])  # bytes of any kind are no image yet

        check()
