"""The life of a probe: how it is found, run, stored, and what its frame knows afterwards."""
