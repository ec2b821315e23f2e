"""The verbs, by topic; `kvfs.cli.main` knows where each is, and imports only that."""
