"""A trained adapter as files other programs take, each checked after it is written."""
