"""Upscaling of videos with PyAV: the frames are restored, and all other streams are copied."""

from lightbsr_arch.inference.video.read import Video, read_video
from lightbsr_arch.inference.video.write import Upscaled, check_target, is_video_name, upscale_video

__all__ = ["Upscaled", "Video", "check_target", "is_video_name", "read_video", "upscale_video"]
