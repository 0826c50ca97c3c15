"""The fixtures of a site that converts checkpoints."""

from tests.support.conversion_site import published, site

__all__ = ["published", "site"]
