"""`mesh doctor`, as far as nothing but settings and files is concerned."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from mesh.cli import checks
from mesh.cli.checks import Finding
from mesh.cli.doctor import doctor
from mesh.cli.up import ALL_QUEUES
from mesh.config import Settings

KEY = SecretStr("sk-secret")


def distributed(secrets: str = "") -> Settings:
    return Settings(database_url="postgresql://db/mesh", redis_url="redis://redis", secrets=SecretStr(secrets))


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "SECRETS", "SANDBOX", "MODELS_FILE", "EMBEDDINGS"):
        monkeypatch.delenv(f"MESH_{name}", raising=False)
    for provider in ("ANTHROPIC", "OPENAI", "GEMINI", "GROQ"):
        monkeypatch.delenv(f"{provider}_API_KEY", raising=False)
        monkeypatch.delenv(f"{provider}_API_BASE", raising=False)
    monkeypatch.setenv("MESH_HOME", str(tmp_path / "home"))


def test_a_fresh_machine_is_ready_for_mesh_up() -> None:
    result = CliRunner().invoke(doctor)
    assert result.exit_code == 0
    assert "Nothing is broken." in result.output
    assert all(name in result.output for name in ("python", "models", "secrets", "home", "database", "redis"))


def test_looking_changes_nothing(tmp_path: Path) -> None:
    CliRunner().invoke(doctor)
    assert list(tmp_path.iterdir()) == []


def test_what_is_broken_makes_the_exit_code_1_and_comes_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    result = CliRunner().invoke(doctor)
    assert result.exit_code == 1
    assert "FAIL  home" in result.output
    assert "-> chmod 700" in result.output


def test_a_setting_that_cannot_be_read_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_PORT", "many")
    result = CliRunner().invoke(doctor)
    assert result.exit_code == 1
    assert "MESH_PORT" in result.output


def test_without_a_provider_mesh_up_has_its_sandbox_and_workers_by_themselves_nothing() -> None:
    assert only(checks.check_models(Settings())).verdict == "ok"
    broken = only(checks.check_models(distributed()))
    assert broken.verdict == "FAIL"
    assert "ANTHROPIC_API_KEY" in broken.remedy


def test_models_are_named_in_the_order_of_fallback_and_keys_are_not() -> None:
    detail = only(checks.check_models(Settings(openai_api_key=KEY, groq_api_key=KEY))).detail
    assert detail.startswith("openai, groq; chain gpt-4o > ")
    assert "sk-secret" not in detail


@pytest.mark.parametrize(
    ("settings", "verdict", "said"),
    [
        ({"embeddings": "gemini-embedding-001", "gemini_api_key": KEY}, "ok", "are sent to gemini"),
        ({"embeddings": "gemini-embedding-001"}, "ok", "are sent to the sandbox"),
        ({"embeddings": "gemini-embedding-001", "openai_api_key": KEY}, "FAIL", "needs GEMINI_API_KEY"),
        ({"embeddings": "gemini-embedding"}, "FAIL", "Did you mean gemini-embedding-001?"),
    ],
)
def test_a_providers_model_of_meaning_must_be_one_that_can_be_asked(
    settings: dict[str, Any], verdict: str, said: str
) -> None:
    finding = only(checks.check_embeddings(Settings(**settings)))
    assert finding.verdict == verdict
    assert said in finding.detail


def test_without_a_providers_model_of_meaning_there_is_nothing_to_say_of_one() -> None:
    assert list(checks.check_embeddings(Settings())) == []


def test_secrets_are_needed_where_mesh_up_does_not_make_them() -> None:
    assert only(checks.check_secrets(Settings())).verdict == "ok"
    assert only(checks.check_secrets(distributed())).verdict == "FAIL"
    assert only(checks.check_secrets(distributed(f"v2:{'x' * 40}"))).verdict == "ok"


def test_a_secret_that_is_wrong_is_not_shown() -> None:
    finding = only(checks.check_secrets(Settings(secrets=SecretStr("v1:tooshort"))))
    assert finding.verdict == "FAIL"
    assert "tooshort" not in finding.detail + finding.remedy


def test_live_workers_are_counted_by_queue() -> None:
    finding = only(checks.workers({"slots": dict.fromkeys(ALL_QUEUES, 32), "unserved_queues": []}))
    assert finding.verdict == "ok"
    assert "agent.content 32" in finding.detail


def test_work_that_nobody_does_is_broken_and_the_remedy_names_the_pool() -> None:
    findings = list(checks.workers({"slots": {"agent.content": 4}, "unserved_queues": ["agent.seo", "mesh.control"]}))
    broken = {finding.detail.split()[0]: finding.remedy for finding in findings if finding.verdict == "FAIL"}
    assert broken == {"agent.seo": "mesh worker --agents seo", "mesh.control": "mesh worker --control"}


def test_no_worker_at_all_is_a_warning_that_says_what_to_start() -> None:
    finding = only(checks.workers({"slots": {}, "unserved_queues": []}))
    assert finding.verdict == "warn"
    assert finding.remedy == "mesh worker; mesh worker --control"
