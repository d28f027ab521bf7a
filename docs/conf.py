"""Settings of the documentation: python -m sphinx -W --keep-going -b html docs docs/_build/html."""

import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import docstrings  # noqa: E402 - in docs/_ext

from pcsim.core.version import VERSION  # noqa: E402

project, author, project_copyright = "pcsim", "the pcsim developers", "the pcsim developers, MIT licence"
release = version = VERSION

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "myst_nb"]
if find_spec("sphinx_copybutton"):
    extensions.append("sphinx_copybutton")

GALLERY = HERE.parent / "gallery" if (HERE.parent / "gallery").is_dir() else HERE / "gallery"
if GALLERY.is_dir():
    extensions.append("sphinx_gallery.gen_gallery")
    sphinx_gallery_conf = {
        "examples_dirs": str(GALLERY),
        "gallery_dirs": "gallery_pages",
        "filename_pattern": r"\.py$",
        "within_subsection_order": "FileNameSortKey",
        "download_all_examples": False,
        "show_memory": False,
        "remove_config_comments": True,
    }

exclude_patterns = ["_build", "_ext", "gallery", "gallery_pages/*.ipynb"]  # notebooks beside the pages of the scripts
suppress_warnings = ["config.cache"]
nitpicky = False

myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
# The tests execute the notebooks; -D nb_execution_mode=force does so for a site with figures.
nb_execution_mode = "off"
nb_execution_timeout = 600
nb_execution_in_temp = True
nb_execution_show_tb = True
nb_output_stderr = "remove"  # progress bars
nb_merge_streams = True

autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autosummary_generate = False
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"pcsim {VERSION}"
html_static_path = ["_static"]
html_css_files = ["pcsim.css"]
html_show_sphinx = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app) -> None:
    """Register the rendering of docstrings."""
    if not GALLERY.is_dir():
        app.add_config_value("plot_gallery", True, "")  # so that -D plot_gallery=0 is allowed without a gallery, too
    app.connect("autodoc-process-docstring", docstrings.process)
    app.connect("autodoc-process-signature", docstrings.shorten)
    app.connect("doctree-read", docstrings.shorten_attributes)
