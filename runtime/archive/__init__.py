"""An archive of scenes, worked off exactly once on object storage and Dask: see archive.py."""
