"""Schemathesis against the OpenAPI document, as each role: nothing breaks the page, and answers are as described."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from appliance.web.roles import Role
from tests.security.whole import Whole

EXAMPLES = 6  # per operation and role: about a minute for all
LEFT_OUT = {
    *("/api/forget", "/api/logout", "/api/sessions/end"),  # would end the test itself; each has tests of its own
    *("/api/upload", "/api/import"),  # take files: test_bodies.py makes them by hand
}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


# The page runs in this process, and its threads draw from `random` while Hypothesis looks whether a strategy does.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("role", ["viewer", "labeller", "admin"])
def test_no_request_that_the_description_allows_or_forbids_breaks_the_page(
    page: Whole, role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    tried = 0
    with page.client(role) as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        sent = {"cookies": dict(client.cookies), "verify": str(page.paths.page_certificate)}
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        if operation.path not in LEFT_OUT:
            tried += 1
            attacked(page, operation, sent)
    assert tried > 30
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def attacked(page: Whole, operation: APIOperation[Any, Any, Any, Any], sent: dict[str, Any]) -> None:
    """A handful of requests to one operation, right ones and wrong ones."""

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    )
    def attack(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=page.url, headers={"Origin": page.url}, **sent)
        case.validate_response(response, checks=CHECKS)

    attack()
