"""The local page of ``lightbsr web``."""
