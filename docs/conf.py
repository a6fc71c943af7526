"""How the site is made: Sphinx, Markdown by MyST, the theme furo. Nothing is fetched by a reader.

Code is taken from the source when the site is built, flags from the parsers of the commands, and
notebooks run then, so that a page cannot lag behind. A build without running notebooks:
`-D nb_execution_mode=off`. With a `Repository` among the URLs in pyproject.toml, every page links
to its source.
"""

import os
import sys
from importlib.metadata import metadata
from pathlib import Path

import limner

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "Limner"
copyright = "the authors of Limner"
version = release = limner.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "beside",
    "docstrings",
    "flags",
    "mathematics",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the kernels, whose models are small
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autodoc_type_aliases = {"Generator": "Generator", "Observation": "Observation"}
python_maximum_signature_line_length = 88
add_module_names = False
highlight_language = "none"

html_theme = "furo"
html_title = f"Limner {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False

urls = dict(url.split(", ", 1) for url in metadata("limner").get_all("Project-URL") or ())
if "Repository" in urls:
    html_theme_options = {
        "source_repository": urls["Repository"],
        "source_branch": "main",
        "source_directory": "docs/",
        "footer_icons": [{"name": "Repository", "url": urls["Repository"], "html": "Repository"}],
    }
