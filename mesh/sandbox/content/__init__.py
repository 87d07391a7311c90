"""What the stand-in says: the mesh's two schemas get a campaign, other schemas samples, no schema plain text."""

from mesh.sandbox.content.replies import text_for

__all__ = ["text_for"]
