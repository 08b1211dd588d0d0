"""Routines in machine code on Python's own texts and dictionaries, and the calls of them."""
