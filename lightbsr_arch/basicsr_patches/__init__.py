"""Corrections to BasicSR 1.4.2, one subject per module.

``import lightbsr_arch`` applies only ``functional_tensor``, without which BasicSR cannot be imported. This package's
models inherit the other corrections from ``base_model.PatchedSRModel``. Other models have them only within
``everything.patched_basicsr``, which the ``basicsr`` command enters.
"""
