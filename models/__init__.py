"""The memory: one aggregate per file, its tables first, then the questions asked of them.

One row goes through the `Session`; many rows go through SQL on the same connection (`models.database.cursor`).
"""
