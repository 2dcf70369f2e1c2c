"""The language server: what ``scan`` finds, in an editor, while a project is being written."""
