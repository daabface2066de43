"""Options files: what may stand in them, and the check before anything is created.

Nothing is imported here, so that ``config.schema`` can be used by the classes that describe their own options.
"""
