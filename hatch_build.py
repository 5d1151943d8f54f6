"""Builds the kernel, `streams/processing/kernel.pyx`, into a wheel: see tools/native.py."""

from __future__ import annotations

import os
import shlex
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "streams/processing/kernel.pyx"
FLAGS = "REJOINDER_KERNEL_FLAGS"
"""The compiler's and the linker's, instead of our own."""


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    """Enabled by HATCH_BUILD_HOOKS_ENABLE, as what mypyc compiles."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the hook's interface.
        """Compile it beside its source, so that an editable install has it too."""
        # Here, where what this hook depends on is installed.
        from Cython.Build import cythonize  # noqa: PLC0415
        from setuptools import Distribution, Extension  # noqa: PLC0415

        name = SOURCE.removesuffix(".pyx").replace("/", ".")
        with TemporaryDirectory() as directory:
            flags = shlex.split(os.environ.get(FLAGS, "-O3"))
            extension = Extension(name, [SOURCE], extra_compile_args=flags, extra_link_args=flags)
            modules = cythonize([extension], build_dir=directory, quiet=True)
            build = Distribution({"name": name, "ext_modules": modules}).get_command_obj("build_ext")
            build.inplace, build.build_temp = True, directory
            build.ensure_finalized()
            build.run()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(f"/{SOURCE.removesuffix('.pyx')}.*.so")
