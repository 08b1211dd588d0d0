"""The format: bytes and text to messages and back, nothing of what operators mean."""
