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
    app()


if __name__ == "__main__":
    main()
