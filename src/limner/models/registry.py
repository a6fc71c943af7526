"""Models by their kind: the name that configs and the command line use.

Limner's own models are listed in `configs`. `register(Model, Config)` adds another one, from a
script, a notebook or an installed package. A package declares the module that registers its model
as an entry point. The module is imported on first use of the kind:

    [project.entry-points."limner.models"]
    my-model = "my_package"

torch is imported only for a model's class: its config, and so its help, does without.
"""

import inspect
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar, get_args, get_origin

from limner.errors import InputError, unknown
from limner.models.configs import OWN, ModelConfig

if TYPE_CHECKING:
    import limner.models.base

ENTRY_POINTS = "limner.models"
MAX_PARAMETERS = 2**30
Model = TypeVar("Model", bound="limner.models.base.LatentVariableModel")


class Registered(NamedTuple):
    model: "type[limner.models.base.LatentVariableModel]"
    config: type[ModelConfig]


_registered: dict[str, Registered] = {}
"""All models but Limner's own."""


def register(model: type[Model], config: type[ModelConfig]) -> type[Model]:
    """Register a model under the `kind` of its config, and return the model's class.

    `limner train KIND`, evaluation, figures, reports and `limner.load` then work for it. A class
    may be registered again: a new definition under the same name, for example from a notebook cell
    that runs again, replaces the earlier one.

    Args:
        model: a subclass of `LatentVariableModel`, called with a config and an image shape.
        config: a subclass of `ModelConfig` with a field such as
            `kind: Literal["my-model"] = "my-model"` and a default for every field.

    Raises:
        InputError: an argument is not as described, or another model has this kind.
    """
    _check_model(model)
    kind = _kind_of(config)
    earlier = _find(kind) if kind in OWN else _registered.get(kind)
    own = kind in OWN and config is not OWN[kind]
    if earlier is not None and (own or _full_name(earlier.model) != _full_name(model)):
        raise InputError(
            f"The kind {kind!r} is taken by {_full_name(earlier.model)}; choose another one."
        )
    _registered[kind] = Registered(model, config)
    return model


def kinds() -> tuple[str, ...]:
    """The kinds of all models: own, registered, then those of packages not yet imported."""
    offered = sorted(entry_points(group=ENTRY_POINTS).names)
    return tuple(dict.fromkeys([*OWN, *_registered, *offered]))


def model_class(kind: str) -> "type[limner.models.base.LatentVariableModel]":
    """The model class of a kind; `InputError` if it is unknown or its package fails to import."""
    return _find(kind).model


def config_class(kind: str) -> type[ModelConfig]:
    """The config class of a kind; `InputError` if it is unknown or its package fails to import."""
    return OWN[kind] if kind in OWN else _find(kind).config


def config_from(value: object) -> ModelConfig:
    """The config of a model: `value` itself, or parsed from a mapping with a registered `kind`.

    Raises:
        InputError: no such kind, or an invalid setting.
    """
    if isinstance(value, ModelConfig):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise InputError(
            f"A model is given by its config, or by a mapping with its kind; got {value!r:.80}."
        )
    return config_class(value["kind"]).parse(dict(value))


def build(
    config: ModelConfig, image_shape: tuple[int, int, int]
) -> "limner.models.base.LatentVariableModel":
    """The model of a config.

    Raises:
        InputError: more than `MAX_PARAMETERS` parameters, checked before memory is allocated.
    """
    count = outline(config, image_shape).num_parameters
    if count > MAX_PARAMETERS:
        raise InputError(
            f"This model would have {count:,} parameters, more than the {MAX_PARAMETERS:,} that "
            "Limner trains; make its widths smaller."
        )
    return class_of(config)(config, image_shape)


def outline(
    config: ModelConfig, image_shape: tuple[int, int, int]
) -> "limner.models.base.LatentVariableModel":
    """The model of a config on the meta device: parameters have shapes but take no memory."""
    import torch

    with torch.device("meta"):
        return class_of(config)(config, image_shape)


def class_of(config: ModelConfig) -> "type[limner.models.base.LatentVariableModel]":
    """The registered model of a config; `InputError` if there is none."""
    kind = config.kind
    known = kind in OWN or kind in _registered or kind in kinds()  # the last reads many files
    if not known or config_class(kind) is not type(config):
        name = type(config).__name__
        raise InputError(f"Call limner.register with {name} and its model before using it.")
    return model_class(kind)


def _find(kind: str) -> Registered:
    if kind in OWN:
        module = import_module(f"limner.models.{kind.replace('-', '_')}")
        return Registered(getattr(module, OWN[kind].__name__.removesuffix("Config")), OWN[kind])
    if kind not in _registered:
        _import_package_of(kind)
    return _registered[kind]


def _import_package_of(kind: str) -> None:
    """Import the installed module that registers `kind`."""
    points = sorted(entry_points(group=ENTRY_POINTS, name=kind), key=lambda point: point.value)
    if not points:
        advice = "for another one, import the module that registers it or install its package"
        raise unknown("model", kind, kinds(), advice)
    packages = [point.dist.name if point.dist else point.value for point in points]
    if len(points) > 1:
        raise InputError(
            f"Several packages provide a model {kind!r}: {', '.join(packages)}; uninstall all but "
            "one."
        )
    try:
        points[0].load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        raise InputError(
            f"The model {kind!r} of the package {packages[0]} cannot be imported; {reason}."
        ) from error
    if kind not in _registered:
        raise InputError(
            f"The package {packages[0]} names {points[0].value} as the module of the model "
            f"{kind!r}, but importing it does not register that kind; call limner.register there."
        )


def _check_model(model: object) -> None:
    from limner.models.base import LatentVariableModel

    if not (isinstance(model, type) and issubclass(model, LatentVariableModel)):
        raise InputError(f"{_name(model)} is not a subclass of limner.LatentVariableModel.")
    if inspect.isabstract(model):
        missing = ", ".join(sorted(model.__abstractmethods__))
        raise InputError(f"{model.__name__} is not complete; it needs {missing}.")


def _kind_of(config: object) -> str:
    """The kind of a config class that can be registered."""
    if not (isinstance(config, type) and issubclass(config, ModelConfig)):
        raise InputError(f"{_name(config)} is not a subclass of limner.ModelConfig.")
    annotation = config.model_fields["kind"].annotation
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    if len(values) != 1 or not isinstance(values[0], str):
        raise InputError(
            f'{config.__name__} needs a field kind: Literal["my-model"] = "my-model", with the '
            "name of your model."
        )
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", values[0]):
        raise InputError(
            f"The kind {values[0]!r} is not a plain name; use lowercase letters, digits and "
            "hyphens between them."
        )
    if config.model_fields["kind"].default != values[0]:
        raise InputError(
            f'The field kind of {config.__name__} must have its name as default, "{values[0]}".'
        )
    required = [name for name, field in config.model_fields.items() if field.is_required()]
    if required:
        raise InputError(
            f"{config.__name__} needs a default for {', '.join(required)}; limner train starts "
            "from the defaults."
        )
    return values[0]


def _name(value: object) -> str:
    return value.__name__ if isinstance(value, type) else f"{value!r:.80}"


def _full_name(model: type) -> str:
    return f"{model.__module__}.{model.__qualname__}"
