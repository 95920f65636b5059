"""Probes of states in their contexts: which occurrence of which word, in which sentence, a state is most like."""
