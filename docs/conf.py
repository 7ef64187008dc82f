"""The documentation's site, by ``make docs``: its source is the whole repository, so links hold."""

import soilkit

project, copyright = "soilkit", "the soilkit authors"
version = release = soilkit.__version__
extensions = ["myst_nb", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "numpydoc"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "notebooks/*.ipynb"]
exclude_patterns = ["build", ".*"]
html_theme, html_title = "furo", "soilkit"
html_copy_source = False

nb_execution_mode = "off"  # notebooks are stored without outputs; `make report` runs them
myst_heading_anchors = 3

apidoc_modules = [
    {
        "path": "../soilkit",
        "destination": "docs/api",
        "module_first": True,
        "separate_modules": True,
    }
]
autodoc_typehints = "none"  # they stand in the docstrings, with shapes and units
numpydoc_show_class_members = False  # autodoc lists them
suppress_warnings = ["docutils"]  # of docstrings' markup, which is written for the terminal too
# SciPy's without a signature to read; scikit-learn's, whose words point into its own site
OTHERS = ("cKDTree", "set_fit_request", "set_predict_request", "set_score_request")
autodoc_default_options = {"exclude-members": ", ".join(OTHERS)}
