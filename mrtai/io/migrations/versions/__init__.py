"""The ledger's revisions, one a file; a revision that was released is never edited."""
