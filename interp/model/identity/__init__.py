"""What makes a model the one that was loaded: how it computes, and that it still computes so."""
