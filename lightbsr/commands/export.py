"""``lightbsr export``."""

import argparse
import sys
from pathlib import Path

from lightbsr.defaults import EXPORT_DTYPES, ONNX_OPSET
from lightbsr.errors import UserError

HELP = "write a network as ONNX or for ncnn"
DESCRIPTION = (
    "Write a student as an ONNX file for programs without PyTorch. The input is lq, N x 3 x H x W, RGB in [0, 1]. The "
    "output is sr, N x 3 x H*scale x W*scale, not clamped. Both are fp32. Batch, height and width are dynamic. If "
    "onnxruntime is installed, the outputs are first compared with those of PyTorch. The metadata contain name, scale, "
    "value range, opset, dtype, network and card. With --split, the estimator and the restorer become two files. This "
    "needs pip install 'lightbsr-arch[onnx]'. If OUT is NAME.param, the command writes NAME.param and NAME.bin for "
    "ncnn. Their input is called data and their output output, and they have no batch. If ncnn is installed, the "
    "outputs are compared. This needs pip install 'lightbsr-arch[ncnn]'"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="name of shipped weights, or a file")
    parser.add_argument("dst", type=Path, metavar="OUT", help="the file to write, NAME.onnx or NAME.param")
    parser.add_argument(
        "--dtype",
        choices=EXPORT_DTYPES,
        default="fp32",
        help="number format of weights and, in ONNX, of the computation; lq and sr are always fp32; default "
        "%(default)s",
    )
    parser.add_argument(
        "--split",
        action="store_true",
        help="write two networks, NAME_estimator, from lq to idr, and NAME_restorer, from lq and idr to sr, so that "
        "tiles can share the IDR of the whole picture",
    )
    parser.add_argument(
        "--int8",
        metavar="PHOTOS",
        help="compute the 3x3 convolutions of the restorer's body in int8, calibrated on low-quality pictures (a "
        "folder, glob or file); ONNX only; docs/speed.md lists the gain in time and the loss in PSNR",
    )
    parser.add_argument("--opset", type=int, metavar="N", help=f"version of the ONNX operators; default {ONNX_OPSET}")


def run(args: argparse.Namespace) -> int:
    is_ncnn = args.dst.suffix == ".param"
    if is_ncnn and args.opset is not None:
        raise UserError(f"{args.dst}: --opset is a version of ONNX, and .param is a file of ncnn; leave --opset out")
    if is_ncnn and args.int8:
        raise UserError(f"{args.dst}: --int8 writes ONNX, and .param is a file of ncnn; leave --int8 out")

    from lightbsr_arch.inference.export_ncnn import export_ncnn
    from lightbsr_arch.inference.export_onnx import export_onnx
    from lightbsr_arch.plugins import load_plugins

    def start() -> None:
        print(f"exporting {args.model}; a large network takes a minute or two ...", file=sys.stderr)

    load_plugins()
    if is_ncnn:
        exported = export_ncnn(args.model, args.dst, args.dtype, args.split, start=start)
    else:
        opset = ONNX_OPSET if args.opset is None else args.opset
        exported = export_onnx(args.model, args.dst, args.dtype, opset, args.split, args.int8, start=start)
    kind, runtime = ("ncnn", "ncnn") if is_ncnn else (f"opset {exported.opset}", "onnxruntime")
    if exported.psnr is not None:
        checked = f"PSNR {exported.psnr:.1f} dB relative to PyTorch in fp32, on the pictures of --int8"
    elif exported.difference is None:
        checked = f"not compared with PyTorch: {runtime} is not installed"
    else:
        checked = f"differs from PyTorch in fp32 by at most {exported.difference:.1e}, for values in [0, 1]"
    dtype = "int8" if args.int8 else args.dtype
    names = ", ".join(str(file) for file in exported.files)
    print(f"{names}: {kind}, {dtype}, {exported.bytes / 1e6:.1f} MB, {checked}")
    return 0
