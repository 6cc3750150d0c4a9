"""Build hook: compiles proto/csi.proto into rbdcsi/api with type stubs, at every build."""

import shutil
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileProto(BuildHookInterface):
    """Generates csi_pb2.py, csi_pb2_grpc.py and their .pyi files."""

    def initialize(self, _version: str, _build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        includes = Path(protoc.__file__).parent / "_proto"
        plugins = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
        # "virtual=real": the file is known as rbdcsi/api/csi.proto, so the import path is right.
        arguments = [
            "protoc",
            f"-Irbdcsi/api={root / 'proto'}",
            f"-I{includes}",
            *(f"--plugin={plugin}={shutil.which(plugin)}" for plugin in plugins),
            f"--python_out={root}",
            f"--mypy_out={root}",
            f"--grpc_python_out={root}",
            f"--mypy_grpc_out=generate_concrete_servicer_stubs:{root}",
            "rbdcsi/api/csi.proto",
        ]
        if protoc.main(arguments):
            raise RuntimeError("protoc could not compile proto/csi.proto: see its message above")
