"""Embeddings of providers: texts into vectors, by one model, at somebody's cost.

memory.embedding, memory.queries -> here -> gateway.  A call goes through what every call goes through (breaker, limits,
budgets, one row of the ledger).  There is no chain: vectors of different models cannot be compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial

from mesh.clock import Clock
from mesh.config import Settings
from mesh.costs.ledger import Spender
from mesh.db.unit_of_work import Database
from mesh.db.vectors import DIMENSIONS
from mesh.errors import BudgetBusyError, BudgetExceededError, ConfigurationError, ModelCallError
from mesh.ids import new_id
from mesh.models.books import Books
from mesh.models.calls import ModelCall
from mesh.models.catalogue import Catalogue, EmbeddingModel, Model
from mesh.models.embedding_calls import unit_vectors
from mesh.models.gateway import Gateway
from mesh.models.providers import access_to, configured

# A batch of long texts takes a few seconds.  A search does not wait so long, but is charged what it used, not what it
# may have used.
CALL_SECONDS = 15.0


def chosen(settings: Settings, catalogue: Catalogue) -> EmbeddingModel:
    """The model that MESH_EMBEDDINGS names.

    Raises:
        ConfigurationError: there is no such model, or its provider is not configured.
    """
    model = catalogue.embedding(settings.embeddings)
    if access_to(model, configured(settings)) is None:
        raise ConfigurationError(f"MESH_EMBEDDINGS={model.name} needs {model.provider.upper()}_API_KEY.")
    return model


def stored_as(model: EmbeddingModel, settings: Settings) -> str:
    """What the vectors of `model` are told from others by: only those of one name can be compared.

    Servers may serve different models under one name.  One with an address of its own goes by the name that the
    catalogue gives it, so that the server may move; the sandbox's vectors mean nothing elsewhere.
    """
    name = f"{model.litellm}:{DIMENSIONS}"
    if model.api_base:
        return f"{model.name}={name}"
    if settings.sandbox:
        return f"sandbox={name}"
    access = access_to(model, configured(settings))
    return f"{access.api_base}={name}" if access and access.api_base else name


class ProviderEmbedder:
    """A `mesh.memory.embedding.Embedder` that asks a provider, and charges who wants to know."""

    charges = True
    # A provider takes 0.1 to 0.5 s for a search.
    answer_seconds = 1.0

    def __init__(
        self,
        model: EmbeddingModel,
        load_gateway: Callable[[], Gateway],
        *,
        stored_as: str,
        worker_id: str,
        database: Database,
        clock: Clock,
        sandbox: bool,
    ) -> None:
        """`load_gateway` takes seconds the first time; nothing is loaded before it is needed."""
        self._model = model
        self._load_gateway = load_gateway
        self._gateway: Gateway | None = None
        self._worker_id = worker_id
        self._books = partial(_Books, sandbox=sandbox, database=database, clock=clock)
        self.model = stored_as
        self.least_similarity = model.least_similarity

    def warm_up(self) -> None:
        """Load LiteLLM, which takes seconds."""
        self._loaded()

    def warm(self) -> bool:
        """Whether that was done."""
        return self._gateway is not None

    def embed(self, texts: Sequence[str], spender: Spender) -> list[list[float]]:
        """A vector of unit length for each of `texts`; what is longer than the model reads is cut.

        Raises:
            ModelsBusyError: the model may not be asked now.
            BudgetExceededError, BudgetBusyError: a budget of the spender's stands in the way.
            ModelCallError: the call failed.
        """
        messages = [{"role": "user", "content": self._model.cut(text)} for text in texts]
        call = ModelCall(
            call_id=new_id("call"),
            requested_model=None,
            model=self._model,
            messages=messages,
            schema=None,
            max_tokens=0,
            temperature=None,
            top_p=None,
            timeout_seconds=CALL_SECONDS,
        )
        books = self._books(replace(spender, worker_id=self._worker_id))
        try:
            reply = self._loaded().ask_one(call, journal=books, parse=partial(unit_vectors, call))
        except BudgetBusyError as error:
            if self._model.priced:
                raise
            # No call that settles makes room for one that nobody knows the price of.
            raise BudgetExceededError(str(error), needed_usd=Decimal(0), left_usd=Decimal(0)) from error
        books.settle(reply)
        return reply.value

    def _loaded(self) -> Gateway:
        self._gateway = self._gateway or self._load_gateway()
        return self._gateway


class _Books(Books):
    """The books of one such call."""

    def opened(self, call: ModelCall, *, after: ModelCallError | None, previous: Model | None) -> None:
        """Reserve the call's worst case."""
        del after, previous  # there is nobody to tell
        self.reserve(call)
