"""Architectures, registered in BasicSR's ``ARCH_REGISTRY``."""

from lightbsr_arch.archs.blindsr_arch import BlindSR
from lightbsr_arch.archs.cdcl_arch import CdCLEncoder, CdCLNet
from lightbsr_arch.archs.dasr_arch import DASREncoder, DASRNet
from lightbsr_arch.archs.idrdcrbnet_arch import IDRDCRBNet
from lightbsr_arch.archs.kdide_arch import KDIDEStudent, KDIDETeacher
from lightbsr_arch.archs.lightbsrnet_arch import LightBSRNet
from lightbsr_arch.archs.lightide_arch import LightIDEStudent, LightIDETeacher
from lightbsr_arch.archs.mmrealsr_arch import DegreeEstimator, MMRealSRNet
from lightbsr_arch.archs.mrda_arch import MRDAEncoder, RDANet
from lightbsr_arch.archs.srmd_arch import KnownDegradation, SRMDNet

__all__ = [
    "BlindSR",
    "CdCLEncoder",
    "CdCLNet",
    "DASREncoder",
    "DASRNet",
    "DegreeEstimator",
    "IDRDCRBNet",
    "KDIDEStudent",
    "KDIDETeacher",
    "KnownDegradation",
    "LightBSRNet",
    "LightIDEStudent",
    "LightIDETeacher",
    "MMRealSRNet",
    "MRDAEncoder",
    "RDANet",
    "SRMDNet",
]
