"""The graph IR: models as objects that can be walked, checked and changed."""
