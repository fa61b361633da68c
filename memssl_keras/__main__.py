"""`memssl` and `python -m memssl_keras`."""

import sys


def main() -> None:
    """Run the command line, or say what to install for it."""
    try:
        from memssl_keras.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "pyarrow"):
            raise
        sys.exit(f"The command line needs {error.name}: pip install 'memssl-keras[cli]'")
    _show_warnings_in_words()
    app()


def _show_warnings_in_words():
    """A warning for who runs the command is one line without the place in the code that it came from."""
    import warnings

    from memssl_keras.cli.output import say_error

    # Of a picture that is too large, our own error says so.
    warnings.filterwarnings("ignore", message=".*decompression bomb DOS attack")
    usual = warnings.showwarning

    def show(message, category, *place, **more):
        if category is UserWarning:
            say_error(f"warning: {message}")
        else:
            usual(message, category, *place, **more)

    warnings.showwarning = show


if __name__ == "__main__":
    main()
