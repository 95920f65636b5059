"""Run a probe over very many prompts, on one machine or many, in shards that are kept and never computed twice."""
