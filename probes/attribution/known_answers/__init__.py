"""Which tokens does each attribution method find where the answer is known?"""
