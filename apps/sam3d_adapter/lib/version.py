"""The version of the app, shown in /info and in releases."""

__version__ = "0.1.0"
