"""Compare a subnetwork with random ones, and with the models it should explain.

Probes: `kept_weights`, `subnetwork_surprisal`, `subnetwork_overlap`, `subnetwork_rotation`, `subnetwork_covariance`.
"""
