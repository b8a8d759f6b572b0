"""The command line, `pcgen …`: one file a verb, imported when the verb is called."""
