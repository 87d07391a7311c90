"""Examples for the document of the interface: one for each type that is asked or answered.

Tests send every request of them, and read every answer with its model.
"""

from typing import Any, get_args

from pydantic import BaseModel

from api.schemas import budgets, events, generate, health, memory, models, networks, security, stats, tasks, tickets
from api.schemas.base import Page, Paging

NETWORK_ID = "network_01kaf2x7c4m9q8r3v5w6y1z0ab"
AGENT_ID = "agent_01kaf2x7c5n1p2q3r4s5t6v7w8"
TASK_ID = "task_01kaf2y0d6e7f8g9h0j1k2m3n4"
STEP_ID = "step_01kaf2y1a1b2c3d4e5f6g7h8j9"
MEMORY_ID = "memory_01kaf2z3k4m5n6p7q8r9s0t1v2"
KEY_ID = "key_01kaf30b2c3d4e5f6g7h8j9k0m"
MADE = "2026-11-22T09:30:00.125Z"
BEGUN = "2026-11-22T09:30:00.180Z"
ENDED = "2026-11-22T09:30:04.950Z"

_PERIOD = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-30T00:00:00Z"}
_AGENT = {
    "name": "SEO Specialist",
    "type": "seo",
    "model": "gpt-4o",
    "description": "Knows what people search for",
    "instructions": "Name the keywords that you chose, and why.",
    "parameters": {"temperature": 0.4, "max_tokens": 4000},
    "capabilities": ["keyword_analysis"],
}
_AGENT_VIEW = _AGENT | {"agent_id": AGENT_ID, "network_id": NETWORK_ID, "status": "idle", "created_at": MADE}
_NETWORK = {
    "name": "Email Campaign Assistant",
    "description": "Writes campaigns for our shop",
    "shared_context": {"brand": "Green Tea House", "tone": "warm"},
    "max_iterations": 5,
    "timeout_seconds": 300,
    "model_selection": {"cost_sensitive": True},
}
_SUBMITTED = {
    "task": "Write an e-mail that announces our autumn sale.",
    "context": {"discount_percent": 20},
    "priority": 5,
    "model_selection": {"task_complexity": "MEDIUM"},
}
_RESULT = {
    "content": "Subject: Autumn is here, and so are 20% off",
    "explanation": "Short, with one clear call to action.",
    "confidence": 0.9,
}
_SPENT = {"prompt_tokens": 2410, "completion_tokens": 620, "calls": 3}
_SPENT_BY_STEP = {"prompt_tokens": 640, "completion_tokens": 210, "calls": 1}
_MEMORY = {
    "content": "The brand's colour is green.",
    "type": "fact",
    "confidence": 0.95,
    "metadata": {"by": "style guide"},
}
_KEY = {
    "user_id": "ann@example.com",
    "role": "user",
    "scopes": ["read", "create"],
    "name": "laptop",
    "networks": [],
}
_KEY_VIEW = _KEY | {
    "key_id": KEY_ID,
    "created_at": MADE,
    "expires_at": "2027-02-20T09:30:00.125Z",
    "last_used_at": None,
    "revoked_at": None,
}
_SUMS = {
    "total_cost": 0.0123,
    "per_model": {"gpt-4o": 0.0123},
    "per_user": {"ann@example.com": 0.0123},
    "per_network": {NETWORK_ID: 0.0123},
    "time_period": "2026-11-01T00:00:00Z to 2026-11-30T00:00:00Z",
}
_COUNTS = {
    "total_calls": 3,
    "successful_calls": 3,
    "failed_calls": 0,
    "per_model": {"gpt-4o": 3},
    "average_latency": {"gpt-4o": 1.42},
    "api_calls": {"read": 12, "write": 2, "generate": 0},
    "time_period": "2026-11-01T00:00:00Z to 2026-11-30T00:00:00Z",
}
_LIVE = {"task_id": TASK_ID, "network_id": NETWORK_ID, "timestamp": BEGUN}
_STEP = {"step_id": STEP_ID, "agent": "Content Specialist", "agent_id": AGENT_ID}


def _event(sequence: int, **fields: object) -> dict[str, Any]:
    return {**_LIVE, "sequence": sequence, **fields}


EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    Paging: {"limit": 20},
    networks.CreateNetwork: _NETWORK | {"agents": [_AGENT], "budget_usd": 2.5},
    networks.Network: _NETWORK
    | {
        "network_id": NETWORK_ID,
        "status": "active",
        "owner": "ann@example.com",
        "agents": [_AGENT_VIEW],
        "agent_count": 1,
        "task_count": 1,
        "memory_count": 1,
        "created_at": MADE,
        "updated_at": MADE,
    },
    networks.ChangeNetwork: {"description": "Writes all our campaigns", "max_iterations": 8},
    networks.AddAgent: {"agent_config": _AGENT | {"name": "Keyword Specialist"}},
    networks.Agent: _AGENT_VIEW,
    networks.ChangeAgent: {"agent_config": {"instructions": "Name three keywords.", "model": None}},
    tasks.SubmitTask: _SUBMITTED | {"budget_usd": 0.5},
    tasks.ListTasks: {"limit": 20, "status": "completed", **_PERIOD},
    tasks.GetTask: {"wait": 0.5},
    tasks.Task: _SUBMITTED
    | {
        "task_id": TASK_ID,
        "network_id": NETWORK_ID,
        "owner": "ann@example.com",
        "status": "completed",
        "deadline": None,
        "created_at": MADE,
        "started_at": BEGUN,
        "finished_at": ENDED,
        "iterations": 2,
        "progress": {"steps_total": 3, "steps_done": 3},
        "result": _RESULT,
        "error": None,
        "usage": _SPENT,
        "cost_usd": 0.0123,
        "models": ["gpt-4o"],
        "sandbox": False,
    },
    tasks.Step: {
        "step_id": STEP_ID,
        "key": "draft",
        "kind": "agent",
        "iteration": 1,
        "agent": "Content Specialist",
        "agent_id": AGENT_ID,
        "agent_type": "content",
        "description": "Draft the e-mail.",
        "depends_on": [],
        "status": "succeeded",
        "attempts": 1,
        "model": "gpt-4o",
        "usage": _SPENT_BY_STEP,
        "cost_usd": 0.0041,
        "created_at": MADE,
        "started_at": BEGUN,
        "finished_at": ENDED,
        "output": "Autumn is here ...",
        "confidence": 0.85,
        "memories_used": [MEMORY_ID],
        "error": None,
        "calls": [
            {
                "call_id": "call_01kaf2y1k2m3n4p5q6r7s8t9v0",
                "model": "gpt-4o",
                "requested_model": None,
                "status": "settled",
                "error_code": None,
                "usage": _SPENT_BY_STEP,
                "cost_usd": 0.0041,
                "estimated": False,
                "latency_seconds": 1.4,
                "created_at": BEGUN,
                "selection": None,
            }
        ],
    },
    memory.AddMemory: _MEMORY | {"pinned": True},
    memory.ChangeMemory: {"content": "The brand's colours are green and gold.", "confidence": 1.0},
    memory.ListMemory: {"limit": 20, "type": "fact", "query": "brand colour", "min_confidence": 0.5},
    memory.MemoryItem: _MEMORY
    | {
        "memory_id": MEMORY_ID,
        "network_id": NETWORK_ID,
        "pinned": True,
        "expires_at": None,
        "source": {"kind": "user", "agent_id": None, "task_id": None, "said_again": []},
        "created_at": MADE,
        "updated_at": MADE,
        "version": 1,
    },
    budgets.SetBudget: {"limit_usd": 10, "period": "month"},
    budgets.Budget: {
        "limit_usd": 10.0,
        "period": "month",
        "spent_usd": 0.0123,
        "reserved_usd": 0.002,
        "resets_at": "2026-12-01T00:00:00.000Z",
    },
    generate.Generate: {"prompt": "Write a slogan for a tea shop.", "max_tokens": 100, "temperature": 0.7},
    generate.GenerateParameters: {"format": "sse"},
    stats.AskStatistics: _PERIOD,
    stats.Cost: _SUMS,
    stats.CostByDay: _SUMS | {"series": [{"date": "2026-11-22", "total_cost": 0.0123}]},
    stats.Usage: _COUNTS,
    stats.UsageByDay: _COUNTS
    | {"series": [{"date": "2026-11-22", "total_calls": 3, "successful_calls": 3, "failed_calls": 0}]},
    models.Models: {
        "models": [
            {
                "name": "gpt-4o",
                "aliases": [],
                "provider": "openai",
                "complexity_tier": "MEDIUM",
                "strengths": ["writing"],
                "context_window": 128000,
                "max_output_tokens": 16384,
                "capabilities": ["vision", "function_calling", "json_schema"],
                "input_usd_per_million_tokens": 2.5,
                "output_usd_per_million_tokens": 10.0,
                "chain_position": 2,
                "configured": True,
                "breaker": "closed",
                "success_rate": 0.99,
                "average_latency": 1.42,
                "retirement_date": None,
                "successor": None,
                "served_by": "gpt-4o",
            }
        ]
    },
    security.CreateKey: _KEY | {"expires_in_days": 90},
    security.ListKeys: {"limit": 20, "user_id": "ann@example.com"},
    security.Key: _KEY_VIEW,
    security.NewKey: _KEY_VIEW | {"api_key": "ann@example.com.1795339800.<token>"},
    tickets.CreateTicket: {"task_id": TASK_ID},
    tickets.Ticket: {"ticket": "djEgYW5u...", "expires_at": "2026-11-22T10:30:00.000Z"},
    health.Status: {"status": "healthy"},
    health.Report: {
        "status": "healthy",
        "components": {"database": {"status": "healthy", "latency_seconds": 0.0012}},
        "active_networks_count": 1,
        "active_tasks_count": 0,
        "version": "0.1.0",
        "timestamp": MADE,
    },
    events.Started: _event(1, status="processing", run=1),
    events.Plan: _event(
        3, iteration=1, steps=[_STEP | {"key": "draft", "description": "Draft the e-mail.", "depends_on": []}]
    ),
    events.StepStarted: _event(4, **_STEP, model="gpt-4o", attempt=1),
    events.Fallback: _event(
        5,
        step_id=STEP_ID,
        from_model="gpt-4o",
        to_model="gemini-2.0",
        reason="rate_limited",
        restarted=True,
    ),
    events.StepCompleted: _event(
        6,
        **_STEP,
        model="gemini-2.0",
        output="Autumn is here ...",
        confidence=0.85,
        usage=_SPENT_BY_STEP,
        cost_usd=0.0041,
        duration_seconds=1.4,
    ),
    events.StepFailed: _event(6, **_STEP, code="timeout", detail="The model did not answer in time.", will_retry=True),
    events.MemoryAdded: _event(
        7,
        memory_id=MEMORY_ID,
        type="decision",
        content="The campaign is called Autumn.",
        confidence=0.8,
        agent="Content Specialist",
        agent_id=AGENT_ID,
    ),
    events.Paused: _event(8, reason="budget_exceeded"),
    events.Resulted: _event(9, result=_RESULT),
    events.Failed: _event(9, code="all_models_failed", detail="No model gave a valid reply."),
    events.Complete: _event(10, status="completed"),
    events.Token: _event(4, step_id=STEP_ID, offset=6, text=" is here"),
    events.Partial: _event(4, step_id=STEP_ID, text="Autumn"),
    events.GenerationStart: {"model": "gpt-4o"},
    events.GenerationToken: {"text": "Tea, and time"},
    events.GenerationFallback: {
        "from_model": "gpt-4o",
        "to_model": "gemini-2.0",
        "reason": "timeout",
        "restarted": True,
    },
    events.GenerationComplete: {
        "model": "gemini-2.0",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 14, "completion_tokens": 9},
        "cost_usd": 0.000023,
    },
    events.GenerationError: {"code": "no_worker", "detail": "No worker is free for it."},
}


def example_of(type_: Any) -> Any:  # noqa: ANN401  # any type that is answered, and the JSON for it
    """The example of a model, of a list of models, or of the first of several; None for what is no model.

    Raises:
        KeyError: the model has none.
    """
    if isinstance(type_, type) and issubclass(type_, Page):
        return {"items": [EXAMPLES[type_.__pydantic_generic_metadata__["args"][0]]], "next_cursor": None}
    return next((EXAMPLES[model] for model in members_of(type_)), None)


def members_of(type_: Any) -> list[type[BaseModel]]:  # noqa: ANN401  # any type that is answered
    """The models that a union is made of, in its order; a model by itself is the only one."""
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        return [type_]
    return [model for part in get_args(type_) for model in members_of(part)]
