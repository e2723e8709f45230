"""Log-Cholesky form of a rigid body's inertia: any ten numbers are a body that could exist.

Rucker and Wensing 2022, Smooth Parameterization of Rigid-Body Inertia: the pseudo-inertia
[[S, h], [h^T, m]], with S the integral of x x^T over the mass m and h = m com, is U U^T for

    U = e^alpha [[e^d1, s12, s13, t1], [0, e^d2, s23, t2], [0, 0, e^d3, t3], [0, 0, 0, 1]]

and theta = (alpha, d1, d2, d3, s12, s23, s13, t1, t2, t3). So m = e^(2 alpha), com = t, and about
the centre of mass S is L L^T, L being U's upper left (3, 3); the inertia is tr(L L^T) 1 - L L^T.
"""

from __future__ import annotations

import numpy as np
import torch


def log_cholesky_of(mass: float, com: np.ndarray, inertia: np.ndarray) -> np.ndarray | None:
    """Theta (10,) of a body; None where no distribution of mass in a volume has this inertia.

    Args:
        mass: [kg].
        com: centre of mass in the body's frame (3,) [m].
        inertia: about the centre of mass in the body's axes (3, 3) [kg m^2].
    """
    moment = 0.5 * np.trace(inertia) * np.eye(3) - inertia
    least = np.linalg.eigvalsh(moment)[0]
    if mass <= 0.0 or least <= 1e-9 * np.trace(inertia):
        return None
    # an upper triangular factor is a lower one of the axes in reverse order
    root = np.linalg.cholesky(moment[::-1, ::-1])[::-1, ::-1] / np.sqrt(mass)
    shear = [root[0, 1], root[1, 2], root[0, 2]]
    return np.array([0.5 * np.log(mass), *np.log(np.diag(root)), *shear, *com])


def numbers_of_log_cholesky(theta: torch.Tensor) -> torch.Tensor:
    """Mass, centre of mass and the six entries of L by rows, (num_envs, 10 n), for n bodies.

    Args:
        theta: (num_envs, 10 n).
    """
    alpha, d1, d2, d3, s12, s23, s13, *com = theta.reshape(len(theta), -1, 10).unbind(-1)
    root = torch.exp(alpha)
    entries = [torch.exp(alpha + d1), root * s12, root * s13]
    entries += [torch.exp(alpha + d2), root * s23, torch.exp(alpha + d3)]
    return torch.stack([root * root, *com, *entries], dim=-1).flatten(1)
