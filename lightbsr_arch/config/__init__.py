"""Options files: what may stand in them, and the check before anything is created.

Classes that describe their own options use the types of ``lightbsr_arch.option_types``.
"""
