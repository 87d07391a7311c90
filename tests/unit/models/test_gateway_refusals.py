"""The gateway without a reply: what is waited for, what pauses a task, what ends it, and what is taken meanwhile."""

import time
from collections.abc import Sequence
from decimal import Decimal

import pytest

from mesh.errors import (
    AllModelsFailedError,
    BudgetBusyError,
    BudgetExceededError,
    DeadlineExceededError,
    ModelCallError,
    ModelsBusyError,
)
from mesh.models.board import Board
from mesh.models.breakers import TRY_SECONDS, Breakers
from mesh.models.calls import Cancellation, Completion, Journal, ModelCall, Preferences
from mesh.models.catalogue import Limit, Model
from mesh.models.gateway import Gateway
from mesh.models.limits import Limits
from mesh.models.selection import Selector
from mesh.testing import AwayRedis, FakeModels
from tests.builders import MODELS, Usual
from tests.unit.models.test_gateway import ASKED, Book, down
from tests.unit.models.timeline import Timeline

GROQS = ("gpt-oss-120b", "gpt-oss-20b")
TOKENS = 1000


class Kept(Book):
    """A journal that lets no call be made."""

    def __init__(self, why: Exception) -> None:
        super().__init__()
        self._why = why

    def opened(self, *_: object, **__: object) -> None:
        raise self._why


class Ours:
    """One gateway's parts, on one timeline."""

    def __init__(self, replies: Sequence[str | ModelCallError], *providers: str, limit: Limit | None = None) -> None:
        self.timeline = Timeline()
        self.models = FakeModels(replies)
        self._limit = limit
        self._providers = providers
        self.board = Board(AwayRedis(), monotonic=self.timeline)
        self.breakers = Breakers(self.board)
        self._limits = Limits(self.board, self)

    def limits_of(self, _model: Model) -> tuple[Limit | None, Limit | None]:
        return self._limit, None

    def rests(self, *names: str) -> None:
        for name in names:
            for _ in range(5):
                self.breakers.failed(name)

    def ask(
        self,
        *,
        left: Decimal | None = None,
        journal: Journal | None = None,
        model: str | None = None,
        seconds: float = 60,
    ) -> str:
        request = Completion(ASKED, None, str, None, TOKENS, preferences=Preferences(model=model), budget_left_usd=left)
        selector = Selector(MODELS, self._providers, Usual(), closed=lambda name: not self.breakers.open(name))
        gateway = Gateway(self.models, selector, self.breakers, self._limits)
        return gateway.complete(
            request, journal=journal or Book(), cancellation=Cancellation(), timeout_seconds=seconds
        ).value


def worst(name: str) -> Decimal:
    return ModelCall("call_1", None, MODELS.resolve(name), ASKED, None, TOKENS, None, None, 1).worst_case_usd


def test_a_step_waits_for_a_model_that_fits_its_budget_but_rests() -> None:
    """Others are too dear: a task that can go on in half a minute is not paused."""
    ours = Ours([], "groq", "openai")
    cheap = [model.name for model in MODELS if worst(model.name) <= worst("gpt-4o-mini")]
    assert 0 < len(cheap) < len(list(MODELS))
    ours.rests(*cheap)
    with pytest.raises(ModelsBusyError) as caught:
        ours.ask(left=worst("gpt-4o-mini"))
    assert caught.value.seconds == 30


def test_a_step_waits_as_well_when_the_books_refuse_what_may_be_asked() -> None:
    ours = Ours([], "groq", "openai")
    ours.rests(GROQS[0])
    refusal = BudgetExceededError("Used up.", needed_usd=Decimal(1), left_usd=Decimal(0))
    with pytest.raises(ModelsBusyError):
        ours.ask(journal=Kept(refusal))


def test_a_paused_task_needs_what_the_cheapest_of_all_models_takes() -> None:
    """That one is not in the chain, but would be asked when the chain is too dear."""
    with pytest.raises(BudgetExceededError) as caught:
        Ours([], "openai").ask(left=Decimal("0.000001"))
    assert caught.value.needed_usd == worst("gpt-4o-mini") < worst("gpt-4o")


def test_anothers_try_is_waited_for_by_the_second() -> None:
    """It may end at any moment; only should its process die does it take a minute."""
    ours = Ours([], "groq")
    ours.rests(*GROQS)
    ours.timeline.advance(30)
    assert all(ours.breakers.admits(name) for name in GROQS)
    with pytest.raises(ModelsBusyError) as caught:
        ours.ask()
    assert caught.value.seconds == TRY_SECONDS == 1


@pytest.mark.parametrize("code", ["not_authorized", "model_not_found"])
def test_a_refused_key_is_said_to_the_first_task_and_to_the_later_ones(code: str) -> None:
    ours = Ours([down(code), down(code)], "groq")
    codes = []
    for _ in range(4):
        with pytest.raises(AllModelsFailedError) as caught:
            ours.ask()
        codes.append({cause.code for name, cause in caught.value.causes if name in GROQS})
    assert codes == [{code}] * 4
    assert ours.breakers.states() == dict.fromkeys(GROQS, "open")


def test_a_model_that_is_out_is_not_waited_for_and_one_that_rests_is() -> None:
    ours = Ours([], "groq")
    ours.breakers.take_out(GROQS[0], "not_authorized")
    ours.rests(GROQS[1])
    with pytest.raises(ModelsBusyError) as caught:
        ours.ask()
    assert caught.value.seconds == 30


class Slow(Breakers):
    """Waits for Redis."""

    def admits(self, model: str) -> bool:
        time.sleep(0.15)
        return super().admits(model)


def test_a_model_for_which_no_time_was_left_has_not_failed() -> None:
    ours = Ours([], "groq")
    ours.breakers = Slow(ours.board, fail_max=1)
    with pytest.raises(DeadlineExceededError):
        ours.ask(seconds=0.2)
    assert ours.breakers.states() == {}


def test_calls_that_were_never_sent_take_nothing_of_a_limit_on_requests() -> None:
    ours = Ours(["good"], "groq", limit=Limit(requests_per_minute=60))
    for _ in range(50):
        with pytest.raises(BudgetBusyError):
            ours.ask(journal=Kept(BudgetBusyError("Others hold it.")))
    assert ours.ask() == "good"


class Meanwhile(Book):
    """A journal within which, a thousand seconds later, another call is asked for."""

    def __init__(self, ours: Ours) -> None:
        super().__init__()
        self._ours = ours

    def opened(self, *_: object, **__: object) -> None:
        self._ours.timeline.advance(1000)
        with pytest.raises(ModelsBusyError):
            self._ours.ask()


def test_a_slot_is_held_as_long_as_its_call_may_take() -> None:
    ours = Ours(["good"], "groq", limit=Limit(concurrency=1))
    assert ours.ask(journal=Meanwhile(ours), seconds=1000) == "good"
