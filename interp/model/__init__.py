"""The model under study: loading, tokenising, recording and replaying forward passes, reading out."""
