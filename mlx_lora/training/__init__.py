"""Training: one loop for every front end."""
