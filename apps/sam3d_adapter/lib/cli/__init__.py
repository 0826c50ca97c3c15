"""The sub-commands of the program, each thin."""
