"""Generation: hearing the base and the adapter."""
