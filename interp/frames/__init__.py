"""Describe and build tidy frames: one vocabulary of columns, a schema per probe."""
