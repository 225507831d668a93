"""LoRA: the layers, where they go, and the folder they are kept in."""
