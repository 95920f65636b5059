"""What does one vector hold of a whole text?

`sentence_states` reads it, in four ways.
"""
