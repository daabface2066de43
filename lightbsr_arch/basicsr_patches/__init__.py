"""Corrections to BasicSR, one subject per module.

They support BasicSR 1.4.2 and its later version ``animesisr-basicsr`` 1.0.3. They inspect the installed code and not
its version.

``import lightbsr_arch`` applies only ``functional_tensor``, without which BasicSR cannot be imported. This package's
models inherit the other corrections from ``base_model.PatchedSRModel``. Other models have them only within the context
manager ``everything.patched_basicsr``, which the ``basicsr`` command uses.
"""
