"""The model under study: load it, tokenise for it, record and replay its forward passes, read it out."""
