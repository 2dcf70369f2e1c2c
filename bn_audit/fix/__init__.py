"""Edits to files, safely: which fixes go together, what a text is after them, and how it gets onto the disk."""
