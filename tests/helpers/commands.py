"""The command line in this process, and what it printed."""

from typer.testing import CliRunner

from memssl_keras.cli import app


def run(*arguments, code=0):
    """What a command printed, in one line; its exit code is checked."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())
