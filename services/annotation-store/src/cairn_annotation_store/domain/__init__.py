"""Decisions as pure functions: nothing here does I/O.

The messages of `cairn.label.v1` and `cairn.annotation.v1` are the domain's values: they are data without behaviour,
and a second set of classes for twenty-two kinds of answer would only have to agree with the first.
"""
