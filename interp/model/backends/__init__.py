"""The libraries that run a model, each behind the interface in `base.py`."""
