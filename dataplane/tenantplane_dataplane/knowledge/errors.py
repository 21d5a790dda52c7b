"""What can go wrong with knowledge, as types: the indexer maps them to exit codes, the API to error codes."""


class BadInputError(Exception):
    """Raise when the input of a build is wrong and building again without a change would fail again.

    ``code`` is stable (``symlink_refused``); the message names the file or field, in printable characters.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class IndexUnavailable(Exception):  # noqa: N818 -- a condition of the service, named as its error code
    """Raise when an index that a request is entitled to cannot be read: absent, damaged, foreign or too large.

    The message is for logs; it may hold a path and never goes to a client.
    """
