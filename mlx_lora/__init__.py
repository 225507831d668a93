"""The library behind Understudy: train, hear, keep and resume LoRA adapters."""

__version__ = "0.1.0"
