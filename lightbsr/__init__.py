"""The part of the project that starts without PyTorch: errors, names, defaults, shipped weights and all commands.

``import lightbsr_arch`` registers every class of the library in BasicSR's registries. It therefore loads PyTorch and
BasicSR, which takes seconds. ``lightbsr --help`` and ``lightbsr models`` answer in less than 0.2 s and must not load
them. Python runs the ``__init__`` of a package before it imports any of its modules. Modules that do not need PyTorch
are therefore in a package of their own.

The library may import every module of this package except ``lightbsr.commands``. The commands import the library only
inside ``run``. ``lint-imports``, which is part of ``make check``, checks both rules.
"""
