"""Capture metadata as pure functions: what may be said, what it amounts to, and how complete it is."""

from agent.metadata.completeness import Lacks, after_probe, after_statement, completeness, missing, so_far
from agent.metadata.fields import FIELDS, SCHEMA_VERSION, Field
from agent.metadata.form import read_form
from agent.metadata.kinds import Kind, Problem
from agent.metadata.saying import default_method, is_certified, warnings

__all__ = (
    "FIELDS", "SCHEMA_VERSION", "Field", "Kind", "Lacks", "Problem", "after_probe", "after_statement", "completeness",
    "default_method", "is_certified", "missing", "read_form", "so_far", "warnings",
)  # fmt: skip
