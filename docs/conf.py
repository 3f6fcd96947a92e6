"""The documentation's site: ``python -m sphinx -W -n docs site``."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import portinit

project = "portinit"
author = "The portinit authors"
version = release = portinit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False  # an initializer's law and values are the base class's
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
nitpick_ignore_regex = [
    ("py:.*", r"(collections|flax|jax|mlx|numpy|os|pathlib|torch)\..*"),  # other projects' pages
    ("py:.*", r"(.*[.~])?_[A-Z]\w*"),  # type variables
    ("py:class", "Names"),  # an alias, which the page says in words
    ("py:class", r"portinit\w*(\.\w+){2,}"),  # of inner modules, in signatures
]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"portinit {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_math_renderer = "mathml"  # which browsers show by themselves

PUNCTUATION = r"[\u3000-\u303f\uff00-\uffef]"
WIDE = r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]"
SEAM = rf"{PUNCTUATION}\n|{WIDE}\n{WIDE}"


def is_chinese(page: str) -> bool:
    """Whether a page is in Chinese, by its name."""
    return page.startswith("zh/")


def join_lines(app: Sphinx, document: nodes.document) -> None:
    """Chinese has no spaces between words, so a line's end must not become one."""
    if is_chinese(app.env.docname):
        for element in document.findall(nodes.TextElement):
            for place in range(1, len(element) - 1):
                before, after = element[place - 1].astext(), element[place + 1].astext()
                if element[place] == "\n" and re.search(SEAM, f"{before}\n{after}"):
                    element[place] = nodes.Text("")


def set_language(app: Sphinx, page: str, template: str, context: dict[str, Any], _: Any) -> None:
    """What a browser is told: for its fonts, its voice and its offer to translate."""
    if is_chinese(page):
        context["language"] = "zh-CN"


def put_formula(translator: Any, node: nodes.Element) -> None:
    """A formula as MathML."""
    block = isinstance(node, nodes.math_block)
    translator.body.append(tex2mathml(node.astext(), as_block=block))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connect them; Sphinx calls this."""
    app.add_html_math_renderer("mathml", (put_formula, None), (put_formula, None))
    app.connect("doctree-read", join_lines)
    app.connect("html-page-context", set_language)
