"""The tree of errors that a user of psvit can meet.

    PsvitError                      exit code 1: something failed
    |-- InputError                  exit code 2: what was given cannot be used
    |   |-- ModelError              a model that cannot be found, built or called
    |   |   `-- CaptureError        a model whose computation cannot be recorded
    |   |-- CheckpointError         weights that are missing, damaged, foreign or unsafe
    |   |-- DataError               a data set that is missing, empty, damaged or mislabelled
    |   |-- PlanError               a plan that is malformed, edited or of another model
    |   |-- OutputError             a folder that exists, is not psvit's, or cannot be written
    |   |-- OptionError             an option, a unit or a name that means nothing
    |   `-- TrainingError           a training whose loss is no number, or that gets no images
    |-- BudgetError                 exit code 3: a budget out of reach; says what is reachable
    `-- MissingExtra                exit code 2: an optional dependency is absent; names the extra

A message is one line: what is wrong, what was got, what was expected, how to fix it.
"""

from __future__ import annotations


class PsvitError(Exception):
    """Base of every error that psvit raises on purpose."""

    exit_code = 1


class InputError(PsvitError):
    """What was given cannot be used."""

    exit_code = 2


class ModelError(InputError):
    """A model that cannot be found, built or called."""


class CaptureError(ModelError):
    """A model whose computation cannot be recorded."""


class CheckpointError(InputError):
    """Weights that are missing, damaged, of another model, or unsafe to read."""


class DataError(InputError):
    """A data set that is missing, empty, damaged or mislabelled."""


class PlanError(InputError):
    """A plan that is malformed, was edited, or belongs to another model."""


class OutputError(InputError):
    """A folder that exists already, is not psvit's, or cannot be written."""


class OptionError(InputError):
    """An option, a unit or a name that means nothing here."""


class TrainingError(InputError):
    """A training that its settings or its data let fail: the loss is no longer a number."""


class BudgetError(PsvitError):
    """A budget that no plan can meet. The message says what is reachable."""

    exit_code = 3


class MissingExtra(PsvitError, ImportError):
    """An optional dependency is absent. The message names the extra to install."""

    exit_code = 2
