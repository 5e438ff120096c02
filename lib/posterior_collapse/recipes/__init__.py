"""Recipes: a paper's set-up at named scales, each constant with its source.

A recipe names data, networks and optimisation; a method names the four slots.
Scales: ``smoke`` proves that the code runs, ``quick`` shows the phenomenon on a laptop,
``medium`` is worth hours of CPU, ``paper`` has the paper's own constants.
To add one, enter its scales in ``table`` and a card of its name in ``cards.toml``.
"""

from __future__ import annotations

from posterior_collapse.errors import BadInput, nearest
from posterior_collapse.recipes.setups import Recipe, Setup, Wording, varied
from posterior_collapse.recipes.table import RECIPES

__all__ = ["RECIPES", "Recipe", "Setup", "Wording", "get", "names", "recipe", "scales", "varied"]


def names() -> list[str]:
    """Every recipe."""
    return sorted(RECIPES)


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        BadInput: unknown name, with the nearest one.
    """
    if name not in RECIPES:
        raise BadInput(nearest(name, RECIPES, "recipe"))
    return RECIPES[name]


def scales(name: str) -> list[str]:
    """The scales that a recipe has, small ones first."""
    return list(recipe(name).scales)


def get(name: str, scale: str) -> Setup:
    """Constants of a recipe at a scale.

    Raises:
        BadInput: unknown recipe or scale, with the nearest one.
    """
    setups = recipe(name).scales
    if scale not in setups:
        raise BadInput(nearest(scale, setups, f"scale of {name}"))
    return setups[scale]
