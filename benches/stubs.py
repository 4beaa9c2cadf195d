"""The messages and stubs of the contract for the benches in Python, generated when this file is imported.

Needs grpcio-tools and googleapis-common-protos.
"""

import atexit
import pathlib
import shutil
import sys
import tempfile

import grpc
import grpc_tools
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parent.parent


def generate():
    """Returns the messages and stubs, whose files go into a temporary folder."""
    out = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    bundled = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    site = pathlib.Path(grpc.__file__).parent.parent
    arguments = ["", f"-I{ROOT}/proto", f"-I{bundled}", f"-I{site}", f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main([*arguments, f"{ROOT}/proto/cognate/v1/cognate.proto"]) == 0
    sys.path.insert(0, out)
    from cognate.v1 import cognate_pb2, cognate_pb2_grpc

    return cognate_pb2, cognate_pb2_grpc


pb, pb_grpc = generate()
