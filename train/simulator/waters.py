"""Water in a simulated scene: lakes, coasts, rivers, reservoirs, ponds, floods, open sea."""

from __future__ import annotations

import numpy as np

from train.simulator.shapes import (
    meander,
    quantile,
    remove_specks,
    ribbon,
    smooth_noise,
)
from train.simulator.terrain import Cover, Terrain


def lakes(terrain: Terrain, share: float, outer_px: float) -> None:
    """Water in the hollows of a fractal surface, some shores with a belt of reed."""
    basin = terrain.fractal(outer_px, terrain.uniform(3.6, 4.6))
    level = quantile(basin, share)
    terrain.fill(remove_specks(basin < level, terrain.speck_px))
    if terrain.chance(0.3):
        belt = np.abs(basin - level) < terrain.uniform(0.02, 0.1)
        terrain.paint(belt & (terrain.fractal(60, 3.2, coarse=2) > 0.3), Cover.REED, canopy_m=1)
        terrain.shown("reed")
    terrain.shown("lakes")


def coast(terrain: Terrain, share: float) -> None:
    """Sea on one side, with bays, headlands and islands, and sometimes a beach."""
    angle = terrain.angle()
    y, x = np.ogrid[: terrain.height_px, : terrain.width_px]
    inland = (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32) / np.float32(0.3 * min(terrain.shape))
    ground = inland + np.float32(terrain.uniform(0.1, 0.8)) * terrain.fractal(500, terrain.uniform(3.2, 4.4))
    level = quantile(ground, share)
    sea = remove_specks(ground < level, terrain.speck_px)
    if terrain.chance(0.35):
        beach = ground < level + terrain.px(terrain.uniform(8, 50), 2) / (0.3 * min(terrain.shape))
        terrain.paint(beach, Cover.SAND, level_db=terrain.uniform(0, 4))
        terrain.shown("beach")
    terrain.fill(sea)
    terrain.shown("coast")


def river(terrain: Terrain, width_px: float) -> None:
    """A meandering river; wavelength about 11 widths (Leopold and Wolman 1960), longer where narrow."""
    wavelength_px = max(width_px * terrain.uniform(8, 16), terrain.uniform(50, 200))
    line = meander(terrain.shape, terrain.rng, wavelength_px, terrain.uniform(0.1, 1.3))
    widths = width_px * np.exp(0.2 * smooth_noise(terrain.rng, len(line), 1.5 * max(width_px, 20)))
    bank = terrain.choice((Cover.GRASS, Cover.SAND, Cover.FOREST, Cover.REED))
    terrain.paint(ribbon(terrain.shape, line, widths + terrain.uniform(2, 10)) & ~terrain.water, bank)
    terrain.fill(ribbon(terrain.shape, line, widths))
    terrain.shown("river" if width_px > 10 else "narrow river")


def braided_river(terrain: Terrain, width_px: float) -> None:
    """A belt of gravel and sand in which the water wanders: its channels are the zero lines of a smooth field."""
    line = meander(terrain.shape, terrain.rng, width_px * terrain.uniform(6, 12), terrain.uniform(0.1, 0.4))
    widths = width_px * np.exp(0.2 * smooth_noise(terrain.rng, len(line), width_px / 3))
    belt = ribbon(terrain.shape, line, widths)
    terrain.paint(belt, Cover.SAND, level_db=terrain.uniform(1, 5))
    channels = np.abs(terrain.fractal(width_px * terrain.uniform(0.6, 1.5), 4.2)) < terrain.uniform(0.3, 0.8)
    terrain.fill(remove_specks(belt & channels, terrain.speck_px))
    terrain.shown("braided river")


def reservoir(terrain: Terrain) -> None:
    """A drowned valley behind a straight dam."""
    valley = terrain.elevation_m / max(float(terrain.elevation_m.std()), 1e-3)
    drowned = valley + np.float32(0.15) * terrain.fractal(100, 3.6) < terrain.uniform(-1.5, -0.5)
    x0, y0 = terrain.point()
    angle = terrain.angle()
    y, x = np.ogrid[: terrain.height_px, : terrain.width_px]
    upstream_px = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
    dam = drowned & (np.abs(upstream_px) < terrain.px(terrain.uniform(4, 10), 0.8))
    terrain.fill(remove_specks(drowned & (upstream_px > 0), terrain.speck_px))
    terrain.paint(dam, Cover.ROCK, canopy_m=terrain.uniform(1, 6), level_db=3)
    terrain.shown("reservoir")


def ponds(terrain: Terrain) -> None:
    """Fish ponds and paddies: parcels of water between bunds."""
    width_px = terrain.px(terrain.log_uniform(25, 150), 9)
    grid = terrain.parcels(width_px * terrain.uniform(1, 2), width_px)
    zone = terrain.fractal(300, 3.6, coarse=4)
    level = quantile(zone, terrain.uniform(0.5, 0.9))
    middle = np.bincount(grid.index.ravel(), zone.ravel(), grid.count) / np.maximum(
        np.bincount(grid.index.ravel(), minlength=grid.count), 1
    )
    farm = middle > level
    wet = farm & (terrain.rng.random(grid.count) < terrain.uniform(0.4, 0.95))
    bund = grid.border_px < terrain.px(terrain.uniform(1, 4), 0.8)
    terrain.paint(farm[grid.index], Cover.WET_SOIL)
    terrain.fill(wet[grid.index] & ~bund)
    terrain.paint(farm[grid.index] & bund, terrain.choice((Cover.GRASS, Cover.REED)), canopy_m=terrain.uniform(0.3, 2))
    terrain.shown("ponds")


def flood(terrain: Terrain) -> None:
    """Low fields under water; dykes, hedges, reed and flooded crops stand out of it, bright by double bounce."""
    width_px = terrain.px(terrain.log_uniform(80, 300), 8)
    fields = terrain.parcels(width_px * 2, width_px)
    steps = terrain.rng.normal(0, terrain.uniform(0, 0.3), fields.count).astype(np.float32)[fields.index]
    # Each field has its own height, so the water stops at some borders and crosses others.
    ground = terrain.fractal(500, 4.0) + np.float32(0.05) * terrain.fractal(40, 3.0) + steps
    under = remove_specks(ground < quantile(ground, terrain.uniform(0.15, 0.65)), terrain.speck_px)
    dyked = (terrain.rng.random(fields.count) < terrain.uniform(0, 0.6))[fields.index]
    dyke = dyked & (fields.border_px < terrain.px(terrain.uniform(1, 4), 0.6))
    plants = terrain.fractal(80, 3.2)
    emergent = plants > terrain.uniform(1.0, 2.2)
    terrain.fill(remove_specks(under & ~dyke & ~emergent, terrain.speck_px // 2))
    terrain.paint(under & dyke, Cover.REED, canopy_m=terrain.uniform(0.5, 2.5))
    terrain.paint(under & emergent & ~dyke, Cover.REED, canopy_m=0.5, level_db=terrain.uniform(0, 3))
    terrain.shown("flooded fields")


def open_water(terrain: Terrain) -> None:
    """Sea almost everywhere, with a few rocks or none."""
    ground = terrain.fractal(300, 4.0)
    terrain.fill(remove_specks(ground < quantile(ground, terrain.uniform(0.95, 1.03)), 30))
    terrain.shown("open water")
