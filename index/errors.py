"""What can go wrong for reasons outside the program, in one small tree.

    OnRecordError
    ├── TranscriptError     the transcript cannot be read, or is not one
    ├── IndexStoreError     the index on disk is missing, damaged, foreign or cannot be written
    ├── EncoderError        the model's weights are missing or not the expected ones
    ├── QuestionError       the question, or a file of questions, cannot be used
    └── ServingError        the page cannot be served

Every message is one line that holds the fact and the remedy. A programmer's mistake is a
`ValueError` or `TypeError` instead, and "the interview does not say" is a value, not an error.
"""


class OnRecordError(Exception):
    """Something that the user can put right; the command line prints it and exits with 2."""


class TranscriptError(OnRecordError):
    """The transcript cannot be read, or is not a transcript."""


class IndexStoreError(OnRecordError):
    """An index directory is missing, damaged, made for something else, or cannot be written."""


class EncoderError(OnRecordError):
    """The encoder's weights are missing, or are not the ones expected."""


class QuestionError(OnRecordError):
    """A question, or a file of questions, cannot be used."""


class ServingError(OnRecordError):
    """The page cannot be served, for instance because the port is taken."""
