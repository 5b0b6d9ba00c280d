"""The machine underneath: stored documents, places for files, memory, child processes."""
