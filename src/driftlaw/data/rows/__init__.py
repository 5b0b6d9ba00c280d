"""One reader of rows: files, folders, addresses, arrays, frames, datasets and iterators as chunks (``open``)."""
