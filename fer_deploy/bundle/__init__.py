"""The bundle: a model in all its variants, with the record of what each was measured to do."""
