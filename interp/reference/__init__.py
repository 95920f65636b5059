"""How the shipped language model is made: its corpus, training, baselines, samples, counts and card."""
