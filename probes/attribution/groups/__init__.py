"""How much does each word, sentence, chat turn or span matter: scores of tokens added up.

Probe: `group_attribution`. `_naming` divides a prompt's tokens into groups, for `faithfulness` too.
"""
