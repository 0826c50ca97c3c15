"""The engine of networks that see a cube: zoom, correction, boundary refinement, enforced clicks."""
