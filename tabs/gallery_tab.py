"""The Gallery tab: one part that pages through /api/v1/images and opens a picture large."""

from tabs.parts import Part


def gallery_tab() -> Part:
    """Lay the tab out."""
    return Part("gallery")
