"""The keyword arguments of a registered class, as a struct like those of ``schema.py``."""

import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import Meta

from lightbsr_arch.option_types import Count, CountOrZero, Network

OWN = ("basicsr", "lightbsr_arch", "torch")
Reduction = Literal["none", "mean", "sum"]
GanType = Literal["vanilla", "lsgan", "wgan", "wgan_softplus", "hinge"]
VggType = Literal["vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"]
Width = Annotated[int, Meta(ge=1, le=8192)]
Factor = Annotated[int, Meta(ge=1, le=64)]
# BasicSR's code has no annotations. Without these types, a wrong value would be refused only when the class is built
# or, for a metric, at the first validation.
BASICSR_TERMS: Mapping[str, Any] = {
    "reduction": Reduction,
    "gan_type": GanType,
    "layer_weights": dict[str, float],
    "vgg_type": VggType,
    "criterion": Literal["l1", "fro"],  # the third value, l2, uses a class that PyTorch does not have
    "input_order": Literal["HWC", "CHW"],
    "crop_border": Annotated[int, Meta(ge=0, le=4096)],
    "num_in_ch": Width,
    "num_out_ch": Width,
    "num_feat": Width,
    "num_grow_ch": Width,
    "num_group": Annotated[int, Meta(ge=1, le=1000)],
    "num_block": Annotated[int, Meta(ge=0, le=1000)],
    "num_conv": Annotated[int, Meta(ge=0, le=1000)],
    "scale": Factor,
    "upscale": Factor,
    "milestones": list[CountOrZero],
    "restarts": list[CountOrZero],
    "periods": Annotated[list[Count], Meta(min_length=1)],
    "restart_weights": list[float],
}
# "    name (type): text", and the lines below it that are indented further
ARGUMENT_TEXT = re.compile(r"^    (\w+)(?: \([^)]*\))?: (.*(?:\n {5,}.*)*)", re.MULTILINE)


def arguments(registered: Callable[..., Any], *, without: Collection[str] = (), **more: Any) -> type[msgspec.Struct]:
    """Derive the keys of a section from the signature of a class or function.

    Args:
        registered: the class or function that ``type`` names.
        without: parameters that are not options.
        more: further keys and their types.

    Returns:
        A struct that forbids other keys, unless a class of another plug-in accepts all keys (``**kwargs``). BasicSR's
        own classes with ``**kwargs`` ignore other keys.
    """
    parameters = inspect.signature(registered).parameters.values()
    hints = _hints(registered)
    texts = dict(ARGUMENT_TEXT.findall(inspect.getdoc(registered) or ""))
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    fields: list[Any] = [("type", str)]
    for parameter in parameters:
        if parameter.name in without or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        expected = _parameter_type(parameter, hints, package(registered))
        if parameter.name in texts:
            expected = Annotated[expected, Meta(description=" ".join(texts[parameter.name].split()))]
        if parameter.default is parameter.empty:
            fields.append((parameter.name, expected))
        else:
            fields.append((parameter.name, expected, _plain_default(parameter.default)))
    fields += [(name, expected, msgspec.UNSET) for name, expected in more.items()]
    return msgspec.defstruct(
        registered.__name__,
        fields,
        kw_only=True,
        forbid_unknown_fields=not takes_any or package(registered) in OWN,
        namespace={"__doc__": inspect.getdoc(registered)},
    )


def package(registered: Callable[..., Any]) -> str:
    return registered.__module__.partition(".")[0]


def _hints(registered: Callable[..., Any]) -> dict[str, Any]:
    function = registered.__init__ if isinstance(registered, type) else registered  # type: ignore[misc]
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError:  # only type checkers can resolve this annotation
        return {}


def _parameter_type(parameter: inspect.Parameter, hints: Mapping[str, Any], package: str) -> Any:
    is_plain = hints.get(parameter.name, int) is int
    if package in ("basicsr", "lightbsr_arch") and parameter.name in BASICSR_TERMS and is_plain:
        return BASICSR_TERMS[parameter.name]
    if parameter.name in hints:
        expected = _checkable(hints[parameter.name])
        return Network if package == "lightbsr_arch" and expected == dict[str, Any] else expected
    return _type_like(parameter.default)


def _type_like(default: Any) -> Any:
    """Return the type of an argument without annotation, derived from its default."""
    match default:
        case bool():
            return bool
        case int() | float():  # `res_scale=1` also accepts 0.1
            return float
        case str():
            return str | None
        case list() | tuple():
            return list[Any]
        case _:
            return Any


def _checkable(annotation: Any) -> Any:
    """Return the part of an annotation that YAML values can have, or ``Any`` if that is unknown."""
    expected = _yaml_type(annotation)
    if expected is None:
        return Any
    try:
        msgspec.inspect.type_info(expected)
    except TypeError:  # msgspec does not support some unions, such as list | tuple
        return Any
    return expected


def _yaml_type(annotation: Any) -> Any:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, bool, int, float, str, type(None)) or origin is Literal:
        return annotation
    if origin is Annotated:
        inner = _yaml_type(args[0])
        parts = [inner, *annotation.__metadata__]
        return None if inner is None else Annotated[tuple(parts)]
    if origin in (Union, types.UnionType):
        members = [member for member in map(_yaml_type, args) if member is not None]
        return Union[tuple(members)] if members else None  # noqa: UP007 - members are known at run time only
    container = origin or annotation
    if not isinstance(container, type):
        return None
    if issubclass(container, Mapping):
        return dict[str, Any]
    if issubclass(container, tuple) and args and args[-1] is not Ellipsis:
        return tuple[tuple(_checkable(arg) for arg in args)]  # type: ignore[misc]
    if issubclass(container, Sequence) and not issubclass(container, bytes):
        return list[_checkable(args[0])] if args else list[Any]  # type: ignore[misc]
    return None


def _plain_default(default: Any) -> Any:
    return default if isinstance(default, bool | int | float | str | tuple | None) else msgspec.UNSET
