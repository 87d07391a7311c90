"""GET /stats/models: every model of the catalogue, and how it does."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine

from mesh.db.unit_of_work import Database
from mesh.models.board import Board
from mesh.models.shared import SharedRedis
from tests.builders import MODELS
from tests.integration.api.conftest import Start
from tests.integration.costs.calls import Call, store

pytestmark = pytest.mark.timeout(60)


def test_every_model_is_listed_with_what_it_can_do_costs_and_how_it_does(
    start: Start, database_url: str, redis_flushed: str
) -> None:
    now = datetime.now(UTC)
    engine = create_engine(database_url)
    calls = [Call(now, model="gpt-4o", latency_seconds=2), Call(now, model="gpt-4o", state="failed")]
    store(Database(engine), calls)
    engine.dispose()
    Board(SharedRedis(redis_flushed)).put("breaker:gemini-3.8-flash", "open", 60)
    ann = start(OPENAI_API_KEY="k", ANTHROPIC_API_KEY="", GEMINI_API_KEY="", GROQ_API_KEY="").user("ann", "read")
    answer = ann.get("/stats/models")
    assert answer.status_code == 200
    models = {model["name"]: model for model in answer.json()["models"]}
    assert models.keys() == {row.model.name for row in MODELS.listed()}
    gpt = models["gpt-4o"]
    assert (
        gpt.items()
        >= {
            "provider": "openai",
            "complexity_tier": "HIGH",
            "context_window": 128_000,
            "max_output_tokens": 16_384,
            "input_usd_per_million_tokens": 2.5,
            "output_usd_per_million_tokens": 10,
            "chain_position": 2,
            "configured": True,
            "breaker": "closed",
            "success_rate": 0.5,
            "average_latency": 2,
            "retirement_date": None,
            "successor": None,
            "served_by": "gpt-4o",
        }.items()
    )
    assert {"vision", "function_calling", "json_schema"} <= set(gpt["capabilities"])
    assert models["gpt-oss-20b"].items() >= {"chain_position": None, "configured": False, "success_rate": None}.items()
    retired = models["gemini-2.0"]
    assert (
        retired.items()
        >= {
            "successor": "gemini-3.8-flash",
            "served_by": "gemini-3.8-flash",
            "chain_position": 3,
            "breaker": "open",
            "aliases": ["gemini-2.0-flash"],
        }.items()
    )


def test_reading_it_takes_a_key_that_may_read(start: Start) -> None:
    service = start()
    assert service.client().get("/stats/models").status_code == 401
    assert service.user("ann", "create").get("/stats/models").status_code == 403
