"""Architectures, registered in BasicSR's ``ARCH_REGISTRY``."""

from lightbsr_arch.archs.blindsr_arch import BlindSR
from lightbsr_arch.archs.idrdcrbnet_arch import IDRDCRBNet
from lightbsr_arch.archs.kdide_arch import KDIDEStudent, KDIDETeacher

__all__ = ["BlindSR", "IDRDCRBNet", "KDIDEStudent", "KDIDETeacher"]
