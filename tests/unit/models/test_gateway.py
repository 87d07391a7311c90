"""The gateway: which models are asked, in which order, how often and how long, and that the books know of each call."""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import repeat
from threading import Timer

import pytest

from mesh.errors import (
    AllModelsFailedError,
    DeadlineExceededError,
    InvalidReplyError,
    ModelCallError,
    StepLostError,
)
from mesh.models.calls import Cancellation, Completion, Messages, ModelCall, Preferences, RawReply, Reply
from mesh.models.catalogue import Model
from mesh.testing import FakeModels
from tests.builders import MODELS
from tests.builders import gateway as gateway_to

CHAIN = ["claude-sonnet-5-5", "gpt-4o", "gemini-3.8-flash", "gpt-oss-120b"]
ALL = ("anthropic", "openai", "gemini", "groq")
ASKED = ({"role": "user", "content": "Say good."},)


class Book:
    """A journal that notes what it is told, in order."""

    def __init__(self, *, lost: bool = False) -> None:
        self.entries: list[tuple[str, ...]] = []
        self.open: list[str] = []
        self._lost = lost

    def opened(self, call: ModelCall, *, after: ModelCallError | None, previous: Model | None) -> None:
        if self._lost:
            raise StepLostError("Somebody else's.")
        self.open.append(call.call_id)
        self.entries.append(("opened", call.model.name, previous.name if previous else "", after.code if after else ""))

    def failed(
        self, call: ModelCall, error: ModelCallError, raw: RawReply | None, *, seconds: float, **_: object
    ) -> None:
        assert seconds >= 0
        self.open.remove(call.call_id)
        self.entries.append(("failed", call.model.name, error.code, "billed" if raw else f"may cost: {error.may_cost}"))

    def cancelled(self, call: ModelCall, **_: object) -> None:
        self.open.remove(call.call_id)
        self.entries.append(("cancelled", call.model.name))


class Slow:
    """A translator whose models never answer: `timeout` comes when their time is over, as from the real one."""

    def __init__(self, *hanging: str) -> None:
        self._hanging = hanging
        self.calls: list[ModelCall] = []

    def start(self, call: ModelCall) -> "Future[RawReply]":
        if call.model.name not in self._hanging:
            return FakeModels(["good"]).start(call)
        self.calls.append(call)
        future: Future[RawReply] = Future()
        error = ModelCallError("timeout", "Too late.", may_cost=True)
        Timer(call.timeout_seconds, lambda: future.set_exception(error)).start()
        return future


def parse(text: str) -> str:
    if text != "good":
        raise InvalidReplyError([f"is {text}"])
    return text.upper()


def repair(messages: Messages, text: str, errors: Sequence[str]) -> Messages:
    return [*messages, {"role": "assistant", "content": text}, {"role": "user", "content": "; ".join(errors)}]


def complete(
    models: FakeModels | Slow,
    book: Book | None = None,
    *,
    model: str | None = None,
    providers: Iterable[str] = ALL,
    cancellation: Cancellation | None = None,
    seconds: float = 60,
    max_tokens: int = 1000,
) -> Reply[str]:
    request = Completion(
        ASKED, {"name": "any", "schema": {}}, parse, repair, max_tokens, 0.5, 0.9, Preferences(model=model)
    )
    gateway = gateway_to(models, *providers)
    return gateway.complete(
        request, journal=book or Book(), cancellation=cancellation or Cancellation(), timeout_seconds=seconds
    )


def down(code: str = "provider_error", *, may_cost: bool = False) -> ModelCallError:
    return ModelCallError(code, "It is down.", status=500, may_cost=may_cost)


def asked(models: FakeModels) -> list[str]:
    return [call.model.name for call in models.calls]


def test_models_are_asked_in_the_chains_order_until_one_answers() -> None:
    models = FakeModels([down(), down(), down(), "good"])
    reply = complete(models)
    assert asked(models) == CHAIN
    assert (reply.value, reply.model.name, reply.raw.text) == ("GOOD", CHAIN[-1], "good")
    assert reply.call_id == models.calls[-1].call_id


@pytest.mark.parametrize(("name", "served_by"), [("gpt-4o-mini", "gpt-4o-mini"), ("gemini-1.5-pro", "gemini-2.5-pro")])
def test_an_explicit_model_is_asked_first_and_the_chain_after_it(name: str, served_by: str) -> None:
    models = FakeModels([*repeat(down(), 4), "good"])
    complete(models, model=name)
    assert asked(models) == [served_by, *CHAIN]
    assert {call.requested_model for call in models.calls} == {name}


def test_an_explicit_model_of_the_chain_is_not_asked_twice() -> None:
    models = FakeModels([*repeat(down(), 3), "good"])
    complete(models, model="gemini-2.0")
    assert asked(models) == ["gemini-3.8-flash", "claude-sonnet-5-5", "gpt-4o", "gpt-oss-120b"]


@pytest.mark.parametrize("explicit", [None, "gpt-4o"])
def test_only_configured_providers_are_asked(explicit: str | None) -> None:
    models = FakeModels([down(), "good"])
    complete(models, model=explicit, providers=["groq", "gemini"])
    assert asked(models) == ["gemini-3.8-flash", "gpt-oss-120b"]


def test_an_invalid_reply_is_repaired_once_by_the_same_model() -> None:
    models, book = FakeModels(["bad", "good"]), Book()
    complete(models, book)
    first, second = models.calls
    assert (first.model, list(first.messages)) == (second.model, list(ASKED))
    assert [message["content"] for message in second.messages] == ["Say good.", "bad", "is bad"]
    model = CHAIN[0]
    assert book.entries == [
        ("opened", model, "", ""),
        ("failed", model, "invalid_reply", "billed"),
        ("opened", model, "", ""),
    ]


def test_after_one_repair_the_next_model_is_asked_afresh() -> None:
    models, book = FakeModels(["bad", "worse", "good"]), Book()
    complete(models, book)
    assert asked(models) == [CHAIN[0], CHAIN[0], CHAIN[1]]
    assert list(models.calls[-1].messages) == list(ASKED)
    assert book.entries[-1] == ("opened", CHAIN[1], CHAIN[0], "invalid_reply")


def test_the_books_know_of_each_call_and_only_the_replys_stays_open() -> None:
    models, book = FakeModels([down(), down("timeout", may_cost=True), "good"]), Book()
    reply = complete(models, book)
    assert book.open == [reply.call_id]
    assert book.entries == [
        ("opened", CHAIN[0], "", ""),
        ("failed", CHAIN[0], "provider_error", "may cost: False"),
        ("opened", CHAIN[1], CHAIN[0], "provider_error"),
        ("failed", CHAIN[1], "timeout", "may cost: True"),
        ("opened", CHAIN[2], CHAIN[1], "timeout"),
    ]


def test_a_broken_connection_is_tried_once_more_before_the_next_model() -> None:
    models = FakeModels([down("connection_failed"), down("connection_failed"), "good"])
    complete(models)
    assert asked(models) == [CHAIN[0], CHAIN[0], CHAIN[1]]


@pytest.mark.parametrize("code", ["rate_limited", "timeout", "not_authorized", "provider_error", "content_blocked"])
def test_no_other_failure_is_tried_again_with_the_same_model(code: str) -> None:
    models = FakeModels([down(code), "good"])
    complete(models)
    assert asked(models) == CHAIN[:2]


def test_when_none_answers_the_cause_of_each_is_told() -> None:
    book = Book()
    with pytest.raises(AllModelsFailedError) as caught:
        complete(FakeModels([down("rate_limited"), "bad", "bad", down("timeout"), down()]), book)
    assert [(model, cause.code) for model, cause in caught.value.causes] == [
        (CHAIN[0], "rate_limited"),
        (CHAIN[1], "invalid_reply"),
        (CHAIN[2], "timeout"),
        (CHAIN[3], "provider_error"),
    ]
    assert book.open == []


def test_a_hanging_model_leaves_time_for_the_next() -> None:
    models = Slow(CHAIN[0], CHAIN[1])
    began = time.monotonic()
    reply = complete(models, seconds=1.2)
    assert reply.model.name == CHAIN[2]
    assert time.monotonic() - began < 1.1
    assert [call.timeout_seconds for call in models.calls] == pytest.approx([0.6, 0.3], abs=0.05)


def test_a_long_reply_has_all_the_time_but_what_the_next_models_need() -> None:
    """Cut off it would be charged, and begun anew by each model in turn."""
    models = FakeModels([down(), down(), down(), "good"])
    complete(models, seconds=300)
    assert [call.timeout_seconds for call in models.calls] == pytest.approx([270, 270, 270, 300], abs=1)


def test_the_time_given_bounds_all_models_together() -> None:
    book = Book()
    began = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        complete(Slow(*CHAIN), book, seconds=0.6)
    assert 0.4 < time.monotonic() - began < 0.9
    assert book.open == []


def test_without_time_nothing_is_asked() -> None:
    models = FakeModels([])
    with pytest.raises(DeadlineExceededError):
        complete(models, seconds=0.05)
    assert models.calls == []


@pytest.mark.parametrize("first", ["bad", down("connection_failed")])
def test_a_model_is_not_asked_again_when_its_time_is_nearly_over(first: str | ModelCallError) -> None:
    """A call that cannot end in time would be charged for nothing: neither a repair nor a new connection is begun."""
    models, book = _Late([first, "good"], after_seconds=0.25), Book()
    with pytest.raises(DeadlineExceededError):
        complete(models, book, providers=["groq"], seconds=0.3)
    assert asked(models) == [CHAIN[3]]
    assert [entry[0] for entry in book.entries] == ["opened", "failed"]


def test_a_cancelled_step_begins_no_call_and_pays_for_none() -> None:
    models, book, cancellation = FakeModels([]), Book(), Cancellation()
    cancellation.cancel()
    with pytest.raises(StepLostError):
        complete(models, book, cancellation=cancellation)
    assert models.calls == []
    assert book.entries[1:] == [("failed", CHAIN[0], "cancelled", "may cost: False")]


def test_a_call_under_way_is_stopped_and_no_further_one_begins() -> None:
    book, cancellation = Book(), Cancellation()
    models = _Announced([None], lambda: Timer(0.05, cancellation.cancel).start())
    with pytest.raises(StepLostError):
        complete(models, book, cancellation=cancellation)
    assert book.entries == [("opened", CHAIN[0], "", ""), ("cancelled", CHAIN[0])]


def test_a_step_that_is_another_workers_by_now_asks_nothing() -> None:
    models = FakeModels([])
    with pytest.raises(StepLostError):
        complete(models, Book(lost=True))
    assert models.calls == []


def test_max_tokens_are_always_sent_and_never_above_the_models_limit() -> None:
    models = FakeModels([down(), "good"])
    complete(models, max_tokens=10**9)
    assert [call.max_tokens for call in models.calls] == [MODELS.resolve(name).max_output_tokens for name in CHAIN[:2]]
    assert models.calls[0].temperature == 0.5
    assert models.calls[0].top_p == 0.9


class _Announced(FakeModels):
    """Says when a call has begun."""

    def __init__(self, replies: Iterable[str | ModelCallError | None], begun: Callable[[], None]) -> None:
        super().__init__(replies)
        self._begun = begun

    def start(self, call: ModelCall) -> "Future[RawReply]":
        self._begun()
        return super().start(call)


class _Late(FakeModels):
    """Answers after a while."""

    def __init__(self, replies: Iterable[str | ModelCallError | None], *, after_seconds: float) -> None:
        super().__init__(replies)
        self._after_seconds = after_seconds

    def start(self, call: ModelCall) -> "Future[RawReply]":
        time.sleep(self._after_seconds)
        return super().start(call)


def test_one_model_by_itself_has_no_fallback_and_rests_only_after_failures_in_a_row() -> None:
    """Five of them."""
    models = FakeModels([*[down()] * 4, "good", *[down()] * 4, "good"])
    gateway = gateway_to(models, *ALL)
    call = ModelCall("call_1", None, MODELS.resolve("gpt-4o"), ASKED, None, 9, None, None, timeout_seconds=9)
    for _ in range(10):
        with suppress(ModelCallError):
            gateway.ask_one(call, journal=Book(), parse=lambda raw: raw.text)
    assert asked(models) == ["gpt-4o"] * 10
