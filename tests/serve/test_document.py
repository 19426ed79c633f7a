"""The API answers as its own OpenAPI document says, whatever is asked."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from browser_visitor import Material, Server, start
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = start(f"checkpoint={material.rgb_model}", temporary=tmp_path_factory.mktemp("document"), name="serve")
    yield found
    log = (found.temporary / "log").read_text()
    assert found.stop() == 0 and "Traceback" not in log


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{server.address}/api/v1/openapi.json")


def validate(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    jsonschema_rs.Draft202012Validator(schema | {"components": document["components"]}).validate(value)


def test_examples_are_as_their_schemas_say(server: Server) -> None:
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


def test_all_that_can_be_asked_and_answered_is_told_in_sentences(server: Server) -> None:
    document = httpx.get(f"{server.address}/api/v1/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    told = [operation["description"] for operation in operations]
    told += [parameter["description"] for operation in operations for parameter in operation.get("parameters", [])]
    told += [answer["description"] for operation in operations for answer in operation["responses"].values()]
    told += [operation["requestBody"]["description"] for operation in operations if "requestBody" in operation]
    own = {name: schema for name, schema in document["components"]["schemas"].items() if "Validation" not in name}
    told += [field["description"] for schema in own.values() for field in schema["properties"].values()]
    assert all(re.match(r"[A-Z].*\w.*[.)]$", text, re.DOTALL) for text in told), told
    summaries = [operation["summary"] for operation in operations]
    assert all(len(summary.split()) > 2 for summary in summaries) and len(set(summaries)) == len(summaries) == 7


def test_the_address_alone_leads_to_the_document(server: Server) -> None:
    with httpx.Client(base_url=server.address, follow_redirects=True, timeout=60) as client:
        page = client.get("/")
    assert page.status_code == 200 and page.url.path == "/api/v1/docs" and "openapi.json" in page.text


def test_answers_are_as_the_document_says(server: Server, material: Material) -> None:
    image = material.rgb_image.read_bytes()
    with httpx.Client(base_url=server.address, timeout=120) as client:
        document = client.get("/api/v1/openapi.json").json()

        def checked(method: str, path: str, query: str = "", **names: str) -> Any:
            response = client.request(method, path.format(**names) + query, content=image if method == "POST" else None)
            told = document["paths"][path][method.lower()]["responses"][str(response.status_code)]["content"]
            kind = response.headers["content-type"]
            assert response.is_success and kind in told
            if kind == "application/json":
                validate(document, told[kind]["schema"], response.json())
                properties = document["components"]["schemas"][told[kind]["schema"]["$ref"].rpartition("/")[2]]
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


def test_every_answer_is_one_that_the_document_names(document: Any) -> None:
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) == 7
    for operation in operations:

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(excluded_checks=[positive_data_acceptance])  # bytes of any kind are no image yet

        check()
