"""Pages in which a network runs in the browser."""

from pcsim.plots.page.export import export_page

__all__ = ["export_page"]
