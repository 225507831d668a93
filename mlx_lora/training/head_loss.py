"""Cross-entropy from hidden states without ever holding all logits.

The head is frozen, so the gradient of the hidden states is made in the forward pass, chunk by chunk
(Hsu et al. 2024, Liger; Wijmans et al. 2024, Cut Your Losses): two products with the head's matrix
as in the plain way, none twice, and logits of one chunk alive at a time. With raw logits z = W h,
logits y = cap tanh(scale z / cap) and p = softmax(y):

    loss = log sum exp y - y_t        dloss/dz = (p - onehot_t) * scale * (1 - (y / cap)^2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlx_lora.models.anatomy import Head

# bytes of float32 logits a chunk, and the fewest positions of one: the matrix is read once a chunk
_CHUNK_BYTES, _FEWEST = 8 << 20, 16


def chunk_size(vocabulary: int) -> int:
    """Positions a chunk."""
    return max(_FEWEST, _CHUNK_BYTES // (4 * vocabulary))


def make_head_loss(head: Head) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    """A function of (hidden (n, width), targets (n,), sure (n,)) to the sum of `sure * loss`.

    Only `hidden` gets a gradient.
    """

    @mx.custom_function  # type: ignore[untyped-decorator]
    def with_gradient(hidden: mx.array, targets: mx.array, sure: mx.array) -> Any:
        return _sums(head, hidden, targets, sure)

    @with_gradient.vjp  # type: ignore[untyped-decorator]
    def backward(primals: Any, cotangents: Any, outputs: Any) -> Any:
        hidden, targets, sure = primals
        gradient = (cotangents[0] * outputs[1]).astype(hidden.dtype)
        return gradient, mx.zeros_like(targets), mx.zeros_like(sure)

    return lambda hidden, targets, sure: with_gradient(hidden, targets, sure)[0]


def _sums(head: Head, hidden: mx.array, targets: mx.array, sure: mx.array) -> Any:
    """The loss and its gradient by `hidden` (n, width)."""
    losses, gradients = [], []
    size = chunk_size(head.vocabulary)
    done: list[mx.array] = []
    for start in range(0, hidden.shape[0], size):
        part = slice(start, start + size)
        # without this, the order of evaluation would make every chunk's logits before any is used
        part_hidden = mx.depends(hidden[part], done) if done else hidden[part]
        loss, gradient = _chunk(head, part_hidden, targets[part], sure[part])
        done = [loss, gradient]
        losses.append(loss)
        gradients.append(gradient)
    return mx.stack(losses).sum(), mx.concatenate(gradients)


def _chunk(head: Head, hidden: mx.array, targets: mx.array, sure: mx.array) -> Any:
    logits = head.logits(head.products(hidden).astype(mx.float32))
    right = mx.take_along_axis(logits, targets[:, None], axis=1)
    top = logits.max(axis=1, keepdims=True)
    powers = mx.exp(logits - top)
    total = powers.sum(axis=1, keepdims=True)
    loss = ((mx.log(total) + top - right)[:, 0] * sure).sum()
    share = sure[:, None]
    if head.cap is None:
        # dividing by `total` and taking the target's row away is done at the narrow side
        back = head.back(powers.astype(hidden.dtype)).astype(mx.float32)
        gradient = (back / total - head.rows(targets)) * (share * head.scale)
    else:
        slope = head.scale * (1.0 - mx.square(logits / head.cap))
        at_target = mx.take_along_axis(slope, targets[:, None], axis=1)
        back = head.back((powers * slope).astype(hidden.dtype)).astype(mx.float32)
        gradient = (back / total - head.rows(targets) * at_target) * share
    return loss, gradient


class Tally(msgspec.Struct, frozen=True):
    """Loss (nats) and right guesses summed over learnt targets; arrays of one number."""

    loss: mx.array
    hits: mx.array


def tally(head: Head, hidden: mx.array, targets: mx.array, sure: mx.array) -> Tally:
    """Loss and next-token hits without a gradient, chunk by chunk."""
    found = list(_tallies(head, hidden, targets, sure))
    return Tally(mx.stack([a for a, _ in found]).sum(), mx.stack([b for _, b in found]).sum())


def _tallies(
    head: Head, hidden: mx.array, targets: mx.array, sure: mx.array
) -> Iterator[tuple[mx.array, mx.array]]:
    size, done = chunk_size(head.vocabulary), list[mx.array]()
    for start in range(0, hidden.shape[0], size):
        part = slice(start, start + size)
        part_hidden = mx.depends(hidden[part], done) if done else hidden[part]
        logits = head.logits(head.products(part_hidden).astype(mx.float32))
        right = mx.take_along_axis(logits, targets[part, None], axis=1)[:, 0]
        loss = ((mx.logsumexp(logits, axis=1) - right) * sure[part]).sum()
        hits = ((mx.argmax(logits, axis=1) == targets[part]) * sure[part]).sum()
        done = [loss, hits]
        yield loss, hits
