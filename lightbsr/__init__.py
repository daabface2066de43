"""The part of the project that starts without PyTorch: errors, names, defaults, shipped weights and all commands.

The project is two packages because two promises exclude each other in one. After ``import lightbsr_arch``, BasicSR's
registries hold every class of the library, so that import loads PyTorch and BasicSR and takes seconds. ``lightbsr
--help`` and ``lightbsr models`` answer in less than 0.2 s, so they must not load it. Importing any module of a package
runs the package's ``__init__`` first; modules that need no PyTorch therefore have a package of their own.

The library may import every module of this package except ``lightbsr.commands``. The commands import the library only
inside ``run``. ``lint-imports``, which is part of ``make check``, guards both rules.
"""
