"""Run shards: in this process, or in several."""
