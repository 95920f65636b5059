"""Tell whether a model is the one that was loaded: how it computes, and that it still computes so."""
