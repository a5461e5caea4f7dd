"""Every error the project raises on purpose, one flat family.

A message names the table or file, the culprit and the fix. Keep handling out: who catches decides what it means.
Exit codes of the command line follow from the class (`exit_code`).
"""


class BacktestAssetsError(Exception):
    """Root of the family; never raised itself."""

    exit_code = 3


class RefusedError(BacktestAssetsError):
    """A gate, a guard or a research decision said no; nothing is broken."""

    exit_code = 1


class BrokenError(BacktestAssetsError):
    """A stage crashed: a bug, or a machine in trouble; the text is the error's own."""


class UsageError(BacktestAssetsError):
    """The caller asked for something that cannot be: a wrong flag, name, date or path."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting has an impossible value."""


class SourceError(UsageError):
    """A source cannot deliver what was asked: folder, file, column, type or unit is wrong."""


class TableError(BacktestAssetsError):
    """A frame does not keep its table's contract."""


class LakeError(BacktestAssetsError):
    """The lake cannot store or serve a partition; nothing was lost."""


class PublishConflictError(LakeError):
    """Another writer published the partition first; the loser's data were not used."""

    exit_code = 1


class TamperedError(LakeError):
    """A stored file is missing, or its bytes are not the ones that were published."""

    exit_code = 1


class NotPublishedError(LakeError):
    """A partition has no published version."""

    exit_code = 1
