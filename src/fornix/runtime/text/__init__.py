"""Nodes that read texts as machine code: tables of what it looks for, and the ways to it."""
