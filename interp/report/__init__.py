"""Run every probe on a model and write one page about it."""
