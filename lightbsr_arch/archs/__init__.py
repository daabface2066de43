"""Architectures, registered in BasicSR's ``ARCH_REGISTRY``."""

from lightbsr_arch.archs.blindsr_arch import BlindSR
from lightbsr_arch.archs.idrdcrbnet_arch import IDRDCRBNet
from lightbsr_arch.archs.kdide_arch import KDIDEStudent, KDIDETeacher
from lightbsr_arch.archs.lightbsrnet_arch import LightBSRNet
from lightbsr_arch.archs.lightide_arch import LightIDEStudent, LightIDETeacher

__all__ = [
    "BlindSR",
    "IDRDCRBNet",
    "KDIDEStudent",
    "KDIDETeacher",
    "LightBSRNet",
    "LightIDEStudent",
    "LightIDETeacher",
]
