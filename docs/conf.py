"""Sphinx configuration of the saga documentation."""

from importlib.metadata import version as installed_version

project = "saga"
author = "The saga authors"
copyright = "The saga authors"
release = installed_version("saga-tasks")
version = release

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]

# Docstrings are plain reStructuredText, so napoleon stays off.
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

html_theme = "furo"
html_title = f"saga {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
