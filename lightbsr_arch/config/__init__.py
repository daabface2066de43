"""Reading of options files, and their checks before a run creates any file.

Classes that describe their own options use the types of ``lightbsr_arch.option_types``.
"""
