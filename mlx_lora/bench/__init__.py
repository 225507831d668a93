"""How fast this machine is with us, and beside mlx-lm on the same work."""
