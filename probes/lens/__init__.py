"""What would the model say if it stopped at this layer?

Probes: `logit_lens`, `top_tokens`; `tuned_lens` trains a lens, `jacobian_lens` takes the mean derivative for one.
"""
