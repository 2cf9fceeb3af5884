"""Settings of Sphinx for `make docs`. The pages stay plain Markdown; tools/docs_site.py does what that asks."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from keypipe import __version__  # noqa: E402  (needs the path above)

project = "keypipe"
author = "The keypipe contributors"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "tools.docs_site"]
root_doc = "README"
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["zh-CN", "site"]
suppress_warnings = ["misc.highlighting_failure"]  # JSON with … in it
myst_heading_anchors = 4  # named as the forge names them

napoleon_use_ivar = True  # attributes are told once, with their class
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "undoc-members": False, "exclude-members": "__init__, __new__"}
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_title = "keypipe"
html_static_path = [str(ROOT / "docs/site/static")]
templates_path = [str(ROOT / "docs/site/templates")]
html_css_files = ["keypipe.css"]
html_copy_source = False
html_show_sphinx = False
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
