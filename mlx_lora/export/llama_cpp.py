"""A GGUF file run by llama.cpp itself, in a worker of its own: texts to ids and back, logits.

Set so that nothing hides a difference: keys and values in F32, flash attention off, weights not
repacked, one thread, CPU. Logits go to a file, row after row, because a vocabulary of 128 k makes
them too large for JSON.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Phase, Pulse, Report
from mlx_lora.export import ggml
from mlx_lora.storage import hide_home, storage_errors

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlx_lora.jobs import LlamaJob

_LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p)
_ERROR, _CONTINUED = 4, 5
_PIECE = 4096  # bytes: longer than any entry of a vocabulary


def run(job: LlamaJob) -> Generator[Event, None, None]:
    """Tokenize `job.texts` and write the logits of `job.rows` to `job.logits`.

    Raises:
        UserError: `broken_export` where llama.cpp refuses the file, in its own words.
    """
    os.environ["GGML_NO_BACKTRACE"] = "1"  # else it calls a debugger where it ends over a file
    model = _Model(job)
    texts = [model.ids(text, add_special=False) for text in job.texts]
    yield Phase("llama_cpp")
    pulse = Pulse()
    if job.rows:
        with storage_errors(Path(job.logits)), Path(job.logits).open("wb") as file:
            for number, row in enumerate(job.rows):
                model.logits(row).tofile(file)
                if pulse.due():
                    yield Phase("llama_cpp", number + 1, len(job.rows))
    yield Report(
        kind="llama",
        data={
            "ids": texts,
            "written": [model.text(ids) for ids in texts],
            "document": model.ids("a", add_special=True),
            "eos": model.eos,
            "vocabulary": model.vocabulary,
        },
    )
    yield Finished(reason="done")


class _Model:
    """An open file and, where rows are asked for, a context."""

    def __init__(self, job: LlamaJob) -> None:
        self._said: list[str] = []
        self._listener = _LogCallback(self._listen)
        self._library = ggml.library()
        self._library.llama_log_set(ctypes.cast(self._listener, ctypes.c_void_p), None)
        self._library.llama_backend_init()
        self._model = self._load(job.model, vocabulary_only=not job.rows)
        self._vocabulary = self._library.llama_model_get_vocab(self._model)
        self.vocabulary: int = self._library.llama_vocab_n_tokens(self._vocabulary)
        self.eos: int = self._library.llama_vocab_eos(self._vocabulary)
        if job.rows:
            self._open_context(max(*map(len, job.rows), job.context))
            self._batch = self._library.llama_batch_init(max(map(len, job.rows)), 0, 1)
        if job.adapter is not None:
            self._adapt(job.adapter)

    def ids(self, text: str, *, add_special: bool) -> list[int]:
        """Ids of a text, its special tokens understood."""
        raw = text.encode()
        room = len(raw) + 16
        out = (ctypes.c_int32 * room)()
        count = self._library.llama_tokenize(
            self._vocabulary, raw, len(raw), out, room, add_special, True
        )
        return list(out[: max(count, 0)])

    def text(self, ids: list[int]) -> str:
        """What it writes for ids, special tokens too."""
        return b"".join(map(self._piece, ids)).decode(errors="replace")

    def _piece(self, token: int) -> bytes:
        room = ctypes.create_string_buffer(_PIECE)
        size = self._library.llama_token_to_piece(self._vocabulary, token, room, _PIECE, 0, True)
        return room.raw[: max(size, 0)]

    def logits(self, row: tuple[int, ...]) -> np.ndarray:
        """float32 (length, vocabulary)."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)
        batch = self._batch
        batch.n_tokens = len(row)
        for at, token in enumerate(row):
            batch.token[at], batch.pos[at], batch.logits[at] = token, at, 1
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
        if self._library.llama_decode(self._context, batch):
            raise self._refused("it could not be run")
        rows = [
            np.ctypeslib.as_array(
                self._library.llama_get_logits_ith(self._context, at), (self.vocabulary,)
            )
            for at in range(len(row))
        ]
        return np.array(rows, np.float32)

    def _load(self, path: str, *, vocabulary_only: bool) -> Any:
        settings = self._library.llama_model_default_params()
        nothing = (ctypes.c_void_p * 1)(None)
        settings.devices = ctypes.cast(nothing, ctypes.c_void_p)
        settings.n_gpu_layers, settings.use_extra_bufts = 0, False
        settings.vocab_only, settings.check_tensors = vocabulary_only, not vocabulary_only
        model = self._library.llama_model_load_from_file(path.encode(), settings)
        if not model:
            raise self._refused("llama.cpp refuses it")
        return model

    def _open_context(self, length: int) -> None:
        settings = self._library.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = max(length, 32)
        settings.n_threads = settings.n_threads_batch = 1
        settings.type_k = settings.type_v = ggml.TYPE_F32
        settings.flash_attn_type = ggml.FLASH_ATTENTION_OFF
        settings.offload_kqv = settings.op_offload = False
        settings.swa_full = True
        self._context = self._library.llama_init_from_model(self._model, settings)
        if not self._context:
            raise self._refused("llama.cpp cannot run it")

    def _adapt(self, path: str) -> None:
        adapter = self._library.llama_adapter_lora_init(self._model, path.encode())
        if not adapter:
            raise self._refused("llama.cpp refuses the adapter")
        adapters, scales = (ctypes.c_void_p * 1)(adapter), (ctypes.c_float * 1)(1.0)
        if self._library.llama_set_adapters_lora(self._context, adapters, 1, scales):
            raise self._refused("llama.cpp cannot put the adapter on")

    def _listen(self, level: int, text: bytes, _data: object) -> None:
        """Keep what it says of errors; `continued` pieces belong to the line before."""
        words = text.decode("utf-8", errors="replace").strip()
        if level == _ERROR or (level == _CONTINUED and self._said):
            self._said.append(words)

    def _refused(self, what: str) -> UserError:
        reason = hide_home(" ".join(" ".join(self._said).split()))[:300]
        why = f"{what} ({reason})" if reason else what
        return UserError("broken_export", "the exported file", why, "export again")
