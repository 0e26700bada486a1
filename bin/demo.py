"""`tf-mamlpp demo`, from a checkout."""

from tf_mamlpp.commands.console import run

if __name__ == "__main__":
    run("demo")
