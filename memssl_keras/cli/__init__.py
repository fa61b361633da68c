"""The command line `memssl`. Each module holds one command; heavy imports wait for their command."""

# Commands are listed in the order in which their modules are imported.
# ruff: noqa: F401, I001
from memssl_keras.cli import pretrain
from memssl_keras.cli import evaluate
from memssl_keras.cli import export
from memssl_keras.cli import embed
from memssl_keras.cli import index
from memssl_keras.cli import search
from memssl_keras.cli import benchmark
from memssl_keras.cli import convert
from memssl_keras.cli import whiten
from memssl_keras.cli import memory
from memssl_keras.cli import push
from memssl_keras.cli import models
from memssl_keras.cli import demo
from memssl_keras.cli.common import app
