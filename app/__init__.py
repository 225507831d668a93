"""The desktop app, and the process entry shared by window, worker and command line."""
