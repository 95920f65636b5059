"""The libraries that run a model; see `base.py` for what each one provides."""
