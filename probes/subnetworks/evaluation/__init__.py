"""Hold a subnetwork against random ones, and against models it should explain.

Probes: `kept_weights`, `subnetwork_surprisal`, `subnetwork_overlap`, `subnetwork_rotation`, `subnetwork_covariance`.
"""
