"""Findings to words, one module per format in :mod:`bn_audit.report.formats`.

A report never decides, and never reads a file.
"""
