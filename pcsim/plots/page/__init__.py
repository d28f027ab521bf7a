"""Web pages that run a network in the browser."""

from pcsim.plots.page.export import export_page

__all__ = ["export_page"]
