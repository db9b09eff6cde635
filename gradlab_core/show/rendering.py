"""Fill the template of a page; all pages do it in this way."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradlab_core.errors import DISTRIBUTION, require


def fill(template: Path, content: Mapping[str, Any]) -> str:
    """The whole HTML page. Templates that pages share are beside this file; a page without figures has no plotly."""
    jinja2 = require("jinja2", extra="report")
    plotly_js = require("plotly.offline", extra="report").get_plotlyjs() if content["figures"] else ""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `tojson` writes <, > and & as \u003c …, so no text in the data can end the script element around it. NaN cannot
    # occur, since charts hold None where there is no finite number; a mistake should fail here, not in the browser.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":"), "sort_keys": False}
    page: str = environment.get_template(template.name).render(
        **content, plotly_js=jinja2.utils.markupsafe.Markup(plotly_js)
    )
    return page


def version() -> str:
    """The version of gradlab, as pages show it."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "of a source tree that is not installed"
