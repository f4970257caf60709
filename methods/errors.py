"""The one base of every error that is the user's to mend, and how any error is written as one line."""


class InputError(ValueError):
    """Something that was given cannot be used: an option, a file, a shape. The message is one sentence that names it
    and says what to do."""


def one_sentence(error: BaseException) -> str:
    """An exception as one line: its own first, with its type where the message alone would not say what happened."""
    text = " ".join(str(error).strip().split("\n")[0].split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"
