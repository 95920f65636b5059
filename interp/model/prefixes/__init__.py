"""Texts that begin alike: what they share is read once."""
