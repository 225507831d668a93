"""Placeholder while the real file is being written; overwrite me."""

from __future__ import annotations

import mlx.core as mx


def quantize_weight(weight, *, bits, group_size, gram):
    return mx.quantize(mx.array(weight), group_size, bits)


def input_grams(module, rows):
    return {}
