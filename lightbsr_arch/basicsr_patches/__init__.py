"""Corrections to BasicSR, one subject per module.

They are for BasicSR 1.4.2 and for its later state, ``animesisr-basicsr`` 1.0.3. They look at the code that is
installed, not at its version.

``import lightbsr_arch`` applies only ``functional_tensor``, without which BasicSR cannot be imported. This package's
models inherit the other corrections from ``base_model.PatchedSRModel``. Other models have them only within
``everything.patched_basicsr``, which the ``basicsr`` command enters.
"""
