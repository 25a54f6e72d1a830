"""Faces of a checkpoint: what `pthparse` prints."""
