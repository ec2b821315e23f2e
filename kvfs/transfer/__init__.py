"""Moving data in and out of stores: one module for each format, `formats` is their registry.

There are two kinds. *Pairs* are keys and values (JSON Lines and what other
databases write). *Entries* are what a mount shows: files with all that they
have, directories, links and special files (`entries`); they come from a store
(`state`), an archive or a directory, and go to one (`copying`).
"""
