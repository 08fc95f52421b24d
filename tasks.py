"""What a person calls: ./inv --list."""

from invoke import Collection, Context, task


@task
def up(c: Context) -> None:
    """Bring every host of an inventory to the state that it describes."""


ns = Collection(up)
