"""The command line `memssl`. Each module holds the commands of one task; heavy imports wait for their command."""

# Commands are listed in the order in which their modules are imported.
# ruff: noqa: F401, I001
from memssl_keras.cli import train
from memssl_keras.cli import evaluate
from memssl_keras.cli import deploy
from memssl_keras.cli import benchmark
from memssl_keras.cli import convert
from memssl_keras.cli import zoo
from memssl_keras.cli import demo
from memssl_keras.cli.common import app
