"""`python -m tf_mamlpp COMMAND ...` is `tf-mamlpp COMMAND ...`."""

from tf_mamlpp.commands.console import main

if __name__ == "__main__":
    main()
