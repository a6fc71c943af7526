"""The two ways in which a command ends early without being at fault."""


class InputError(ValueError):
    """Input that Limner cannot use. The message is one sentence: what was wrong and what to do.

    The command line prints it and exits with status 2; nothing has been written by then.
    """


class Stopped(Exception):
    """A signal ended long work, whose state is saved. `status` is the shell's, 128 + signal."""

    def __init__(self, sentence: str, signum: int):
        super().__init__(sentence)
        self.status = 128 + signum
