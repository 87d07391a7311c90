"""What the service's processes are given."""

import pytest

from mesh.config import PROVIDERS, Settings, load
from mesh.embedded.parts import environment, service, with_sandbox
from mesh.sandbox.formats import BASES


def test_a_child_reads_the_settings_that_its_parent_has(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = with_sandbox(
        Settings(database_url="postgresql://m@/mesh?host=/a%20b", port=8099, auth="local"), 9000, BASES.items()
    )
    for name, value in environment(parent).items():
        monkeypatch.setenv(name, value)
    assert load().model_dump() == parent.model_dump()


def test_a_child_does_not_see_settings_that_its_parent_was_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from elsewhere")
    monkeypatch.setenv("TZ", "UTC")
    given = environment(Settings(openai_api_key=None))
    assert "OPENAI_API_KEY" not in given
    assert given["TZ"] == "UTC"


def test_the_sandbox_stands_in_for_all_four_providers() -> None:
    settings = with_sandbox(Settings(), 9000, BASES.items())
    assert settings.sandbox
    assert set(BASES) == set(PROVIDERS)
    for provider, path in BASES.items():
        assert getattr(settings, f"{provider}_api_base") == f"http://127.0.0.1:9000{path}"
        assert getattr(settings, f"{provider}_api_key").get_secret_value() == "sandbox"


def test_every_part_of_the_service_waits_for_what_it_needs() -> None:
    parts = service(Settings(), needs=("postgres", "valkey"), concurrency=4, api_ready=lambda: True)
    assert [part.name for part in parts] == ["api", "worker", "worker-control", "beat"]
    assert all(part.needs == ("postgres", "valkey") for part in parts)
