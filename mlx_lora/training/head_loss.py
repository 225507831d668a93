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

from mlx_lora.training.policy import chunk_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlx_lora.models.anatomy import Head

# operations the CPU backend queues ahead (mlx 0.32: ten tasks of ten)
_QUEUED = 110


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
        loss, gradient = _chunk(head, _after(done, hidden[part]), targets[part], sure[part])
        done = [loss, gradient]
        losses.append(loss)
        gradients.append(gradient)
    return mx.stack(losses).sum(), mx.concatenate(gradients)


def _after(done: list[mx.array], hidden: mx.array) -> mx.array:
    """The hidden states of a chunk, to be touched when the chunk before is done with.

    Without that, the order of evaluation would make every chunk's logits before any is used. And
    the CPU backend allocates the results of some hundred operations ahead of their execution, so a
    hundred small ones stand between the chunks there.
    """
    if not done:
        return hidden
    if mx.default_device() == mx.cpu:
        link = done[0]
        for _ in range(_QUEUED):
            link = link + 0.0
        done = [*done, link]
    made: mx.array = mx.depends(hidden, done)
    return made


def _chunk(head: Head, hidden: mx.array, targets: mx.array, sure: mx.array) -> Any:
    logits = head.logits(head.products(hidden).astype(mx.float32))
    right = mx.take_along_axis(logits, targets[:, None], axis=1)
    top = logits.max(axis=1, keepdims=True)
    shares = mx.softmax(logits, axis=1, precise=True)
    # the largest share is 1 / sum exp (y - top), so the exponentials are made once
    loss = ((top - mx.log(shares.max(axis=1, keepdims=True)) - right)[:, 0] * sure).sum()
    weight = sure[:, None]
    if head.cap is None:
        # the target's row is taken away at the narrow side, not from all scores
        back = head.back(shares.astype(hidden.dtype)).astype(mx.float32)
        return loss, (back - head.rows(targets)) * (weight * head.scale)
    slope = head.scale * (1.0 - mx.square(logits / head.cap))
    at_target = mx.take_along_axis(slope, targets[:, None], axis=1)
    back = head.back((shares * slope).astype(hidden.dtype)).astype(mx.float32)
    return loss, (back - head.rows(targets) * at_target) * weight


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
        logits = head.logits(head.products(_after(done, hidden[part])).astype(mx.float32))
        right = mx.take_along_axis(logits, targets[part, None], axis=1)[:, 0]
        loss = ((mx.logsumexp(logits, axis=1) - right) * sure[part]).sum()
        hits = ((mx.argmax(logits, axis=1) == targets[part]) * sure[part]).sum()
        done = [loss, hits]
        yield loss, hits
