"""Families and a kind of prompt that tests add to a copy of the app, as folders and files of their own."""
