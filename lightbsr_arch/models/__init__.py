"""Models, registered in BasicSR's ``MODEL_REGISTRY``."""

from lightbsr_arch.models.blindsr_model import BlindSRModel
from lightbsr_arch.models.contrastive_model import ContrastiveSRModel
from lightbsr_arch.models.kd_student_model import KDStudentModel
from lightbsr_arch.models.kd_teacher_model import KDTeacherModel
from lightbsr_arch.models.ranked_model import RankedSRModel

__all__ = ["BlindSRModel", "ContrastiveSRModel", "KDStudentModel", "KDTeacherModel", "RankedSRModel"]
