"""J, the derivative of a network's outputs by all of its parameters: its products with vectors."""

from __future__ import annotations

import torch

from gippo.networks.adam import ParameterVector
from gippo.networks.native_function import NativeJacobian
from gippo.networks.perceptron import Mlp, Tangent


class TorchJacobian:
    """Products with J of any network, anywhere."""

    def __init__(self, mlp: Mlp, parameters: ParameterVector, dtype: torch.dtype) -> None:
        """Args: those of `jacobian_of`."""
        self._mlp = mlp
        self._views = parameters.views
        self._dtype = dtype
        self._tangent: Tangent | None = None

    def at(self, parameters: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Linearise there, which the products are of until the next call.

        Args:
            parameters: (P,), laid out as a `ParameterVector`.
            x: (n, num_inputs).

        Returns:
            The outputs, (n, num_outputs), without a graph.
        """
        x = x.to(self._dtype)
        views = self._views(parameters.detach().to(self._dtype))
        self._parameters = [view.detach().requires_grad_() for view in views]
        self._output = self._mlp.forward_with(self._parameters, x)
        self._x, self._tangent = x, None
        return self._output.detach()

    def times(self, change: torch.Tensor) -> torch.Tensor:
        """The outputs' change J v (n, num_outputs) for that of the parameters, (P,)."""
        if self._tangent is None:  # whoever goes back alone needs none
            self._tangent = Tangent(self._mlp, self._parameters, self._x)
        return self._tangent.times(self._views(change))

    def transposed(self, seed: torch.Tensor) -> torch.Tensor:
        """The gradient J^T u (P,) of the outputs times u, (n, num_outputs)."""
        gradients = torch.autograd.grad(self._output, self._parameters, seed, retain_graph=True)
        return torch.cat([g.reshape(-1) for g in gradients])


Jacobian = NativeJacobian | TorchJacobian


def jacobian_of(mlp: Mlp, parameters: ParameterVector, dtype: torch.dtype) -> Jacobian:
    """The derivative of a network's outputs by all of its parameters.

    Args:
        mlp: the network.
        parameters: of the module that holds nothing but `mlp`; says how they are laid out and
            whether native passes take part.
        dtype: that is calculated in.
    """
    if parameters.native and mlp.has_native_form:
        return NativeJacobian(mlp.sizes, dtype)
    return TorchJacobian(mlp, parameters, dtype)
