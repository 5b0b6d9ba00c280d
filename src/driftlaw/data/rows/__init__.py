"""Rows of files: formats, tables, and streams of chunks."""
