"""Tokens a base was never trained on, told from a few rows of its weights.

What no text of the training held keeps the row it began with, or drifts with all others of its
kind: such rows are zero or all but the same, while those of trained tokens lie far apart. Measured
as the distance to the second nearest row by the row's own length: 0.0001 for unused tokens of
stories260k; of 300 tokens of the bundled model 0.24 or more for 95 %, 0.059 at the least. No
adapter on linear layers changes these rows, and what has the same row is given the same
probability.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlx_lora.models.tensors import TensorInfo

# rows compared with at either end of the vocabulary, where special and unused tokens are
_ROWS = 256
# a distance by the row's length, below which two rows are the same; rows that must be; what is zero
_SAME, _ALIKE, _ZERO = 0.01, 2, 1e-6
_FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def is_untrained(tensors: dict[str, TensorInfo], token: int) -> bool:
    """Whether a model cannot tell a token it writes from others; False where that is not known.

    `tensors` are its tables of contents; about 500 rows of one are read, none of a packed one.
    """
    import numpy as np

    info = _output(tensors)
    if info is None or not 0 <= token < info.shape[0]:
        return False
    own = _rows(info, token, token + 1)[0]
    last = info.shape[0]
    ends = (0, min(_ROWS, last)), (min(last, max(_ROWS, last - _ROWS)), last)
    others = np.concatenate([_rows(info, first, behind) for first, behind in ends])
    length = float(np.linalg.norm(own))
    if length <= _ZERO * float(np.median(np.linalg.norm(others, axis=1))):
        return True
    distances = np.linalg.norm(others - own, axis=1)
    is_itself = token < _ROWS or token >= last - _ROWS
    return int((distances < _SAME * length).sum()) - is_itself >= _ALIKE


def _output(tensors: dict[str, TensorInfo]) -> TensorInfo | None:
    """The matrix that gives a token its probability: the head, or the embeddings it is tied to."""
    for ending in ("lm_head.weight", "embed_tokens.weight"):
        for name, info in tensors.items():
            if name.endswith(ending):
                known = info.dtype in _FLOATS and len(info.shape) == 2  # noqa: PLR2004  (a matrix)
                return info if known else None
    return None


def _rows(info: TensorInfo, first: int, last: int) -> NDArray[Any]:
    """Rows of a matrix, in float32."""
    import numpy as np

    with info.path.open("rb") as file:
        width = (info.end - info.start) // info.shape[0]
        file.seek(info.start + first * width)
        data = np.frombuffer(file.read((last - first) * width), _FLOATS[info.dtype])
    if info.dtype == "BF16":
        data = (data.astype(np.uint32) << 16).view(np.float32)
    return data.astype(np.float32).reshape(last - first, info.shape[1])
