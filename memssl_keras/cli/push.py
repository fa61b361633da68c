"""`memssl push`."""

from typing import Annotated

import typer

from memssl_keras.cli.common import Token, app, errors_in_words, example
from memssl_keras.cli.output import say


@app.command(epilog=example("memssl push runs/photos me/massl_vits16.photos --license apache-2.0"))
def push(
    model: Annotated[str, typer.Argument(help="Folder of a model, or a bundled one.")],
    repo_id: Annotated[
        str, typer.Argument(help="Repository on the Hub, OWNER/NAME; made if it is not there.")
    ],
    license: Annotated[str | None, typer.Option(help="Of the weights.")] = None,
    data: Annotated[str | None, typer.Option(help="For the card: the images that it was trained on.")] = None,
    hardware: Annotated[str | None, typer.Option(help="For the card: where it was trained.")] = None,
    limits: Annotated[str | None, typer.Option(help="For the card: what it is known to do badly.")] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository that only you see.")] = False,
    branch: Annotated[str | None, typer.Option(help="Branch to commit to, main by default.")] = None,
    token: Token = None,
):
    """Publish a model: every library's files, compared with each other, and a generated card.

    Scores in the card are those of results.json in the folder, which memssl evaluate writes; what was not measured
    is not in it. Files that do not give the same embeddings are not published.
    """
    with errors_in_words():
        from memssl_keras.zoo.publish import push_to_hub

        facts = {"license": license, "data": data, "hardware": hardware, "limits": limits}
        commit = push_to_hub(
            model,
            repo_id,
            private=private or None,
            token=token,
            revision=branch,
            **{name: text for name, text in facts.items() if text},
        )
    say(f"{repo_id}: published as {commit}")
