"""Reading of options files, and the checks before a run creates anything.

Classes that describe their own options use the types of ``lightbsr_arch.option_types``.
"""
