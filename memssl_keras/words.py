"""Numbers and their nouns in messages."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with its noun in the plural where it is not 1.

    Example:
        >>> from memssl_keras.words import counted
        >>> counted(1, "unreadable image"), counted(1000, "image")
        ('1 unreadable image', '1,000 images')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
