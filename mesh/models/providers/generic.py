"""Any other provider that LiteLLM knows, and servers at an address of their own: nothing special is asked of them.

Prices, above all, are not LiteLLM's to be given: it would take them for those of every model of that name, also the
provider's own.
"""

from mesh.models.providers._base import common as arguments

__all__ = ["arguments"]
