"""Models: finding them, checking them, loading them."""
