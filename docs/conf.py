"""Sphinx configuration of the saga documentation."""

from sphinx.pycode import ModuleAnalyzer

import saga
import saga.diagram
import saga.durable.codec
import saga.storage

project = "saga"
author = "The saga authors"
copyright = "The saga authors"
release = saga.__version__
version = release

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]

# Docstrings are plain reStructuredText, so napoleon stays off.
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = f"saga {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]


# -- names under which users import ---------------------------------------------------------------------------------------

ROOMS = (saga, saga.storage, saga.durable.codec, saga.diagram)
# By where a name is defined, which signatures and docstrings refer to: where it is documented.
PUBLIC = {}
for room in ROOMS:
    for name in room.__all__:
        PUBLIC.setdefault(f"{getattr(getattr(room, name), '__module__', None)}.{name}", f"{room.__name__}.{name}")


def refer_to_public_name(app, env, node, shown):
    """Resolve a reference to a name where it is defined, or to a bare one, as one to the name that users import."""
    target = node.get("reftarget", "")
    name, _, member = target.partition(".") if target[:1].isupper() else (target, "", "")
    public = PUBLIC.get(target) or next((found for found in PUBLIC.values() if found.endswith(f".{name}")), None)
    if node.get("refdomain") != "py" or public is None:
        return None
    public = f"{public}.{member}" if member else public
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, shown)


def setup(app):
    app.connect("missing-reference", refer_to_public_name)
    # A type checker is told in several signatures what a reader is told in one.
    executing = ModuleAnalyzer.for_module("saga.saga")
    executing.analyze()
    executing.overloads.clear()
