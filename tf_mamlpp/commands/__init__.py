"""The commands of `tf-mamlpp`, a module each: its `flags`, and a `main` that is given the `--config.` overrides.

`console` has the list of them and runs one.  None loads TensorFlow before it has looked at its flags.
"""
