"""Find, run and store probes, and attach provenance to their frames."""
