"""What onnxruntime asks about its installation, answered for fornix."""

from __future__ import annotations

from fornix.onnxruntime import cuda_version, package_name, version


def get_package_name_and_version_info() -> tuple[str, str, str]:
    """Name and version of the package, and the version of CUDA: none."""
    return package_name, version, cuda_version


def check_distro_info() -> None:
    """Nothing: every system that Python runs on is fine."""


def check_training_module() -> tuple[bool, str, str]:
    """Whether there is a training module, and for which CUDA: no."""
    return False, "", ""
