"""timm's model registry: ``register_model`` marks a factory, ``create_model`` finds it by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from psvit.errors import ModelError

Factory = TypeVar("Factory", bound=Callable[..., nn.Module])


class Registry:
    """The factories registered while one user's file is loaded."""

    def __init__(self) -> None:
        self._factories: dict[str, Callable[..., nn.Module]] = {}

    def register_model(self, factory: Factory) -> Factory:
        """Decorator: remember ``factory`` under its own name and leave it as it is."""
        self._factories[factory.__name__] = factory
        return factory

    def create_model(self, model_name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
        """Call the factory of that name; arguments that are None are left out, as timm does."""
        if model_name not in self._factories:
            raise ModelError(
                f"timm.create_model({model_name!r}): not registered by the files loaded, which "
                f"register {', '.join(sorted(self._factories)) or 'nothing'}"
            )
        given = {name: value for name, value in kwargs.items() if value is not None}
        return self._factories[model_name](pretrained=pretrained, **given)

    def list_models(self) -> list[str]:
        """Names of the factories registered so far."""
        return sorted(self._factories)

    def is_model(self, model_name: str) -> bool:
        """Whether a factory of that name is registered."""
        return model_name in self._factories

    def names(self) -> dict[str, Any]:
        """What ``timm.models.registry`` exports."""
        return {
            "register_model": self.register_model,
            "create_model": self.create_model,
            "list_models": self.list_models,
            "is_model": self.is_model,
        }
