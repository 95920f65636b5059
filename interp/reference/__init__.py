"""The making of the shipped language model: corpus, training, baselines, samples, counts and card."""
