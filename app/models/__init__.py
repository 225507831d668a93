"""Qt models over values of the library: they fold, sort and count; they show nothing."""
