"""The steps of the wizard, and what lies beside them. Pages do not know each other."""
