"""A scorecard of tokenizers: how short, how evenly and how fairly they write texts. No model is needed."""

from interp.scorecard.table import tokenizer_scorecard

__all__ = ["tokenizer_scorecard"]
