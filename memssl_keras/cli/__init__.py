"""The command line `memssl`. Each module holds the commands of one task; heavy imports wait for their command."""

from memssl_keras.cli import deploy, show, train  # noqa: F401  their commands register with the app
from memssl_keras.cli.common import app  # noqa: F401
