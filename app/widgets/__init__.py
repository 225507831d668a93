"""Widgets: they show values and emit what a person did. They know no page and no job."""
