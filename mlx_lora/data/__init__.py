"""Datasets: files to rows, rows to examples, examples to tokens and masks."""
