"""Train masks over weights, neurons and heads.

Probes: `bigram_subnetwork`, `subnetwork_log`.
"""
