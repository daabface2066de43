"""The interface of every network. Code for any network uses this interface and names no architecture.

A blind SR network is a ``BlindSR`` of an ``Estimator`` and a ``Restorer``, or a ``Network`` of another structure, such
as an iterative one. To add one, write ``archs/NAME_arch.py`` or a plug-in with

1. the class, which derives from ``Estimator``, ``Restorer`` or ``Network`` and is registered by
   ``@ARCH_REGISTRY.register()``. Registered classes are found by checkpoints, the upscaler, ``lightbsr`` and spandrel.
   The types of its arguments are ``int``, ``bool``, ``float | None`` or ``Literal`` of strings. Whole numbers that
   repeat layers are called ``num_block`` and ``num_group``. All other whole numbers are sizes that occur in the shape
   of a tensor. ``may_be_zero`` lists those that may be 0;
2. ``from_state``, which derives these arguments from the shapes of the tensors;
3. ``published_names``, if its authors published weights under other names;
4. ``kept_apart``, if its authors published some tensors in another file, such as a PCA of blur kernels, and
   ``stored_arguments``, if some arguments follow from no shape but belong to the weights;
5. ``extra_input``, if it needs more than the low-quality image, and ``is_teacher``, if that input is unavailable at
   test time;
6. ``estimate_in_strips`` or ``restore_in_strips``, if it can process large images strip by strip. The result must equal
   that of the whole image except for rounding. Without the method, images are processed as a whole.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, ClassVar

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.archs.fast.row_streams import Strips

State = dict[str, torch.Tensor]
Arguments = dict[str, Any]
Guides = dict[str, torch.Tensor]

Advance = Callable[[float], None]
"""Receives the share of an image's work that has been done since the last call. The shares sum to about one."""

EXTRA_INPUTS = {
    "gt": "a teacher needs the ground truth of every image: use a dataset that has it",
    "prior": "this network also needs the blur kernel and noise level of every image: use a DegradedDataset",
}
"""Extra inputs by name, with the message if a data set lacks one. "gt" is the ground truth, N x 3 x H*scale x W*scale.
"prior" is the degradation, a pair of blur kernels, N x K x K, and noise levels, N."""


class Part(nn.Module):
    """A network, or a part of one, that can be recognised in a file of weights.

    Attributes:
        published_names: pairs of a regular expression and a replacement. They are applied in turn to the start of each
            key of a published state dict, and convert the authors' keys to those of ``state_dict()``. A replacement of
            None drops a tensor without counterpart. A key without a match belongs to another part.
        kept_apart: names in ``state_dict()`` of tensors that a file may lack. They are then filled with NaN.
        stored_arguments: names of numeric arguments that ``state_dict()`` contains, unless they are None, because no
            shape shows them. Loading ignores them: the arguments of the network are the valid ones.
        may_be_zero: the numeric arguments for which 0 is a valid value.
    """

    published_names: ClassVar[tuple[tuple[str, str | None], ...]] = ()
    kept_apart: ClassVar[tuple[str, ...]] = ()
    stored_arguments: ClassVar[tuple[str, ...]] = ()
    may_be_zero: ClassVar[tuple[str, ...]] = ("num_block",)

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        """Derive the arguments of the class from the shapes of its tensors.

        Args:
            state: tensors by their names in ``state_dict()``. It may contain other tensors, and some may be missing.

        Returns:
            The arguments, or None if these are not the tensors of this class. A ``KeyError``, ``IndexError``,
            ``ValueError``, ``TypeError`` or ``ArithmeticError`` counts as None. If several classes return arguments,
            the one whose tensors fit best is used.
        """
        return None

    def _save_to_state_dict(self, destination: State, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.stored_arguments:
            if (value := getattr(self, name)) is not None:
                destination[prefix + name] = torch.tensor(value, dtype=torch.float64)

    def _load_from_state_dict(self, state_dict: State, prefix: str, *rest: Any) -> None:
        for name in self.stored_arguments:
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @classmethod
    def with_pca(cls, arguments: Arguments, pca: torch.Tensor) -> tuple[Arguments, State] | None:
        """Add the authors' PCA of blur kernels to a published network.

        Args:
            arguments: arguments of the class.
            pca: the matrix, K*K x number of components.

        Returns:
            The changed arguments and tensors, or None if the class has no PCA.

        Raises:
            UserError: the matrix does not fit.
        """
        return None


class Estimator(Part):
    """Estimates the degradation of an image.

    Attributes:
        idr_ch: channels of the IDR, which is a vector or a map (``archs/idr.py``).
        knows: the names of the tensors that ``estimate`` returns besides the IDR, for losses in training.
        contrast_layers: the names of the layers that the IDR does not depend on. Only contrast trains them.
        extra_input: the name of the input beyond the low-quality image, a key of ``EXTRA_INPUTS``, or None.
        is_teacher: whether that input is unavailable at test time. A user can supply the extra input of others.
        kernel_size: side of the blur kernels that it receives, or None.
    """

    idr_ch: int
    knows: tuple[str, ...] = ()
    contrast_layers: ClassVar[tuple[str, ...]] = ()
    extra_input: str | None = None
    is_teacher: bool = False
    kernel_size: int | None = None

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the IDR of ``lq``, N x 3 x H x W, and the tensors named in ``knows``.

        Args:
            lq: low-quality images, RGB in [0, 1].
            extra: the extra input, or None for an estimator without one.
        """
        raise NotImplementedError

    def forward(self, lq: torch.Tensor, extra: Any = None) -> torch.Tensor:
        """Return the IDR only."""
        return self.estimate(lq, extra)[0]

    def estimate_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
        """Return the IDR of one image, 1 x 3 x H x W. ``rows`` rows are processed at a time."""
        idr = self.estimate(lq)[0]
        advance(1.0)
        return idr

    def missing(self) -> str | None:
        """Return the reason why the extra input cannot be used yet, such as a PCA that is not fitted, or None."""
        return None

    def fit(self, sample: Callable[[int], torch.Tensor], generator: torch.Generator) -> int:
        """Set the tensors of ``kept_apart`` before training.

        Args:
            sample: returns N blur kernels, N x K x K, of the training's degradation, for a number N.
            generator: generator of random numbers, on the CPU.

        Returns:
            The number of kernels that were used.
        """
        return 0


def refuse_extra_input(estimator: nn.Module, extra: Any) -> None:
    """Check that an estimator without extra input receives none.

    Raises:
        ValueError: there is an extra input.
    """
    if extra is not None:
        name = type(estimator).__name__
        raise ValueError(f"{name} sees the low-quality image alone; only a teacher takes a privileged input")


class Restorer(Part):
    """Upscales an image by ``scale``, with guides that it computes from an IDR.

    Attributes:
        system: name under which other programs list networks with this restorer.
        num_in_ch: channels of the input image.
        num_out_ch: channels of the output image.
        num_feat: channels of its features, which determine the memory of a strip.
        idr_ch: channels of the IDR, a vector or a map.
        knows: names of its guides.
        converters: the layers that compute the guides from an IDR.
    """

    system: ClassVar[str] = ""
    num_in_ch: int = 3
    num_out_ch: int = 3
    num_feat: int = 64
    idr_ch: int
    knows: tuple[str, ...] = ()
    scale: int
    converters: tuple[nn.Module, ...] = ()

    def guides(self, idr: torch.Tensor, height: int, width: int) -> Guides:
        """Return the guides for images of the given size, by the names in ``knows``."""
        raise NotImplementedError

    def forward(self, lq: torch.Tensor, guides: Guides) -> torch.Tensor:
        """Return the SR images, N x 3 x H*scale x W*scale, not clamped."""
        raise NotImplementedError

    def restore_in_strips(self, lq: torch.Tensor, guides: Guides, rows: int, advance: Advance) -> Strips:
        """Yield the SR image of 1 x 3 x H x W in strips. ``rows`` rows are processed at a time."""
        yield self(lq, guides), True
        advance(1.0)


class Network(Part):
    """A complete network: ``forward(lq)`` or ``forward(lq, extra)`` returns the SR images.

    Attributes:
        parts: arguments that describe a registered class (``type`` and its arguments), with the base of that class. It
            is empty for a network without parts.
        config: arguments that rebuild the network, ``type(self)(**config)``.
    """

    parts: ClassVar[dict[str, type[Part]]] = {}
    config: Arguments
    scale: int
    num_in_ch: int = 3
    num_out_ch: int = 3
    num_feat: int = 64
    extra_input: str | None = None
    is_teacher: bool = False

    @property
    def privileged(self) -> str | None:
        """Return the name of a teacher's privileged input ("gt", "prior"), or None for any other network."""
        return self.extra_input if self.is_teacher else None

    def missing(self) -> str | None:
        """Return the reason why the extra input cannot be used yet, or None."""
        return None

    def sr_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> Iterator[torch.Tensor]:
        """Yield the SR image of 1 x 3 x H x W in strips. ``rows`` rows are processed at a time."""
        yield self(lq)
        advance(1.0)


# ------------------------------------------------------------------------------------------ for callers


def registered(base: type[Part]) -> dict[str, type[Any]]:
    """Return the registered classes that derive from ``base``, by name, in the order of registration."""
    return {name: cls for name, cls in ARCH_REGISTRY if isinstance(cls, type) and issubclass(cls, base)}


def in_our_names(state: Mapping[str, torch.Tensor], cls: type[Part], part: str = "") -> State:
    """Rename the published tensors of one part. Other tensors are returned unchanged.

    Args:
        state: tensors of a whole network.
        cls: the class of the part.
        part: the attribute that holds the part; "" for a whole network.
    """
    prefix = f"{part}." if part else ""
    renamed = {}
    for key, value in state.items():
        ours: str | None = key
        for published, replacement in cls.published_names:
            if ours is not None and re.match(published, ours):
                ours = None if replacement is None else re.sub(f"^{published}", replacement, ours)
        if ours is not None:
            renamed[key if ours == key else prefix + ours] = value
    return renamed


def complete(state: State, net: nn.Module) -> None:
    """Add the tensors that published files lack, filled with NaN, and replace the arguments by those of the network."""
    for key, value in kept_apart(net).items():
        state.setdefault(key, torch.full(value.shape, torch.nan))
    own = net.state_dict()
    for name, module in net.named_modules():
        for argument in module.stored_arguments if isinstance(module, Part) else ():
            key = f"{name}.{argument}" if name else argument
            state.pop(key, None)
            if key in own:
                state[key] = own[key]


def kept_apart(net: nn.Module) -> State:
    """Return the tensors of ``Part.kept_apart`` by their names in the network's ``state_dict()``."""
    found = {}
    for name, module in net.named_modules():
        for key in module.kept_apart if isinstance(module, Part) else ():
            found[f"{name}.{key}" if name else key] = module.state_dict()[key]
    return found


def extra_input(net: Any, offered: Mapping[str, Any]) -> tuple[Any, ...]:
    """Pick the extra input of a network.

    Args:
        net: any network. A network of another package has no extra input.
        offered: the available inputs by name; None for a missing input.

    Returns:
        A tuple with the extra input, or an empty tuple, for the call ``net(lq, *extra)``.

    Raises:
        UserError: the network needs an input that is missing.
    """
    name = getattr(net, "extra_input", None)
    if name is None:
        return ()
    if offered.get(name) is None:
        raise UserError(EXTRA_INPUTS.get(name, f"{type(net).__name__} needs the input {name!r} of every image"))
    return (offered[name],)


def needs_lq_only(net: Network, source: object) -> None:
    """Refuse a network that needs more than the low-quality image.

    Args:
        net: the network.
        source: its file, for the message.

    Raises:
        UserError: the network is a teacher, or has an extra input.
    """
    if net.is_teacher:
        raise UserError(f"{source}: the weights of a teacher, which also sees the {net.extra_input}; use its student's")
    if net.extra_input is not None:
        needs = EXTRA_INPUTS.get(net.extra_input, f"this network also needs the {net.extra_input}").partition(":")[0]
        raise UserError(f"{source}: {needs}, which cannot be given here")


def count(state: Collection[str], pattern: str) -> int:
    """Return how many names match a regular expression as a whole."""
    return sum(re.fullmatch(pattern, key) is not None for key in state)
