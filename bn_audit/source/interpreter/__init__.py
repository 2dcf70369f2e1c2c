"""A partial evaluator of Python: it runs what a trail needs of a program's source, on values that may be unknown.

Nothing of the program is executed or imported. `expressions`, `statements` and `calls` are the language; `scopes`
finds names, in
other files too; `torch_calls`, `keras_calls`, `external_calls` and `builtin_calls` say what libraries do; `flmodel`
notes the
calls of SecretFlow's FLModel that a run arrives at. `run` holds the state of one run and the decisions it rests on.
"""
