"""`memssl push`."""

import pathlib
from typing import Annotated, Any

import typer

from memssl_keras.cli.common import Token, app, errors_in_words, example
from memssl_keras.cli.output import say


@app.command(epilog=example("memssl push runs/photos me/massl_vits16.photos --license apache-2.0"))
def push(
    model: Annotated[str | None, typer.Argument(help="Folder of a model, or a bundled one.")] = None,
    repo_id: Annotated[
        str | None, typer.Argument(help="Repository on the Hub, OWNER/NAME; created if it does not exist.")
    ] = None,
    everything: Annotated[
        str | None,
        typer.Option(
            "--all",
            metavar="OWNER",
            help="Publish every bundled model and the demo under this owner instead.",
        ),
    ] = None,
    benchmark: Annotated[
        pathlib.Path | None,
        typer.Option(help="With --all: folder of the icon benchmark, to be published as a data set."),
    ] = None,
    license: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
    data: Annotated[str | None, typer.Option(help="For the card: the training images.")] = None,
    hardware: Annotated[str | None, typer.Option(help="For the card: the training hardware.")] = None,
    limits: Annotated[str | None, typer.Option(help="For the card: known weaknesses.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    branch: Annotated[str | None, typer.Option(help="Branch to commit to, main by default.")] = None,
    token: Token = None,
) -> None:
    """Publish a model on the Hub, with a generated model card.

    The files of every library are compared first; if they do not give the same
    embeddings, nothing is published. The scores in the card are those of
    results.json in the model's folder, which memssl evaluate writes.

    With --all OWNER: publish every bundled model, the demo as a Space and, with
    --benchmark, the icon benchmark. Each model's commit and SHA-256 are written
    into models.json. After an interruption, run it again: it resumes.
    """
    given = {"license": license, "data": data, "hardware": hardware, "limits": limits}
    facts: dict[str, Any] = {name: text for name, text in given.items() if text}
    with errors_in_words():
        if everything is not None:
            _refuse_beside_all({"MODEL": model, "REPO_ID": repo_id, "--branch": branch, **facts})
            _push_all(everything, benchmark, private or None, token)
            return
        if not model or not repo_id:
            raise ValueError("expected MODEL and REPO_ID, or --all OWNER")
        if benchmark:
            raise ValueError(f"--benchmark {benchmark}: expected --all OWNER with it")
        from memssl_keras.zoo.publish import push_to_hub

        commit = push_to_hub(model, repo_id, private=private or None, token=token, revision=branch, **facts)
    say(f"{repo_id}: published as {commit}")


def _refuse_beside_all(given):
    if extra := [name for name, value in given.items() if value]:
        raise ValueError(f"{extra[0]}: expected none beside --all, which takes each model as it is bundled")


def _push_all(owner, benchmark, private, token):
    from memssl_keras.demo.space import write_space
    from memssl_keras.zoo.release import release

    for published in release(owner, benchmark=benchmark, space=write_space, private=private, token=token):
        say(f"{published.repo_id}: {'published as' if published.new else 'is there as'} {published.revision}")
