"""Check the arguments of a call against the function's annotations, before anything is computed.

Marking a function with `@interp.probe` does it for a probe; `@checked` does it for any other function or class. Checked
are plain types: flags, whole and finite numbers, texts, paths, names of a `Literal`, lists and dictionaries of these,
and classes. Everything else is left to the function, and so are the model and its texts, which take many forms.
"""

from interp.checks.calls import answering, check, checked, example_call, kinds_of, shows_parameters_of

__all__ = ["answering", "check", "checked", "example_call", "kinds_of", "shows_parameters_of"]
