"""What the papers claim, as checks: one module per method, found through the entry-point group `interp.claims`."""
