"""The API conforms to its OpenAPI document."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from browser_visitor import Assets, Server, start
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = start(f"checkpoint={assets.rgb_model}", temporary=tmp_path_factory.mktemp("document"), name="serve")
    yield found
    log = (found.temporary / "log").read_text()
    assert found.stop() == 0 and "Traceback" not in log


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{server.address}/api/v1/openapi.json")


def validate(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    jsonschema_rs.Draft202012Validator(schema | {"components": document["components"]}).validate(value)


def test_examples_in_the_document_match_their_schemas(server: Server) -> None:
    document = httpx.get(f"{server.address}/api/v1/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    schemas = [parameter["schema"] for operation in operations for parameter in operation.get("parameters", [])]
    for name in ("ModelClass", "ModelBand", "ModelCard", "JobState", "Problem"):
        properties = document["components"]["schemas"][name]["properties"].values()
        schemas += [own for own in properties if "$ref" not in str(own)]
    assert len(schemas) > 30
    for schema in schemas:
        assert schema["examples"], schema
        for example in schema["examples"]:
            validate(document, schema, example)


def test_every_description_in_the_document_is_a_sentence(server: Server) -> None:
    document = httpx.get(f"{server.address}/api/v1/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    descriptions = [operation["description"] for operation in operations]
    descriptions += [
        parameter["description"] for operation in operations for parameter in operation.get("parameters", [])
    ]
    descriptions += [answer["description"] for operation in operations for answer in operation["responses"].values()]
    descriptions += [operation["requestBody"]["description"] for operation in operations if "requestBody" in operation]
    own = {name: schema for name, schema in document["components"]["schemas"].items() if "Validation" not in name}
    descriptions += [field["description"] for schema in own.values() for field in schema["properties"].values()]
    assert all(re.match(r"[A-Z].*\w.*[.)]$", text, re.DOTALL) for text in descriptions), descriptions
    summaries = [operation["summary"] for operation in operations]
    assert all(len(summary.split()) > 2 for summary in summaries) and len(set(summaries)) == len(summaries) == 7


def test_the_root_url_redirects_to_the_documentation(server: Server) -> None:
    with httpx.Client(base_url=server.address, follow_redirects=True, timeout=60) as client:
        page = client.get("/")
    assert page.status_code == 200 and page.url.path == "/api/v1/docs" and "openapi.json" in page.text


def test_successful_responses_match_their_schemas(server: Server, assets: Assets) -> None:
    image = assets.rgb_image.read_bytes()
    with httpx.Client(base_url=server.address, timeout=120) as client:
        document = client.get("/api/v1/openapi.json").json()

        def checked(method: str, path: str, query: str = "", **names: str) -> Any:
            response = client.request(method, path.format(**names) + query, content=image if method == "POST" else None)
            descriptions = document["paths"][path][method.lower()]["responses"][str(response.status_code)]["content"]
            kind = response.headers["content-type"]
            assert response.is_success and kind in descriptions
            if kind == "application/json":
                validate(document, descriptions[kind]["schema"], response.json())
                properties = document["components"]["schemas"][descriptions[kind]["schema"]["$ref"].rpartition("/")[2]]
                assert set(response.json()) == set(properties["properties"])
                return response.json()
            return None

        checked("GET", "/api/v1/model")
        checked("POST", "/api/v1/predict")
        checked("POST", "/api/v1/explain", "?target=water")
        job = checked("POST", "/api/v1/jobs", "?preflight=warn")["id"]
        while checked("GET", "/api/v1/jobs/{job}", job=job)["state"] != "done":
            time.sleep(0.05)
        checked("GET", "/api/v1/jobs/{job}/result", job=job)


def test_generated_requests_get_documented_responses(document: Any) -> None:
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) == 7
    for operation in operations:

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(excluded_checks=[positive_data_acceptance])  # random bytes are no valid image

        check()
