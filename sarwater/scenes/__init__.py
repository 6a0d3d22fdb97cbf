"""THE reader: whatever needs a scene or a label, in training, export and at run time, gets it here.

readers/         one file per kind of product; readers/__init__.py is the registry and the way in
archive.py       archives, unpacked within bounds
trial.py         a scene is opened in another process first, under a budget
scene.py         an opened scene: bands, georeference, time
model_input.py   the scene as a network sees it: channels in the model's order, nodata, strips of rows
labels.py        label files: which belongs to which image, and what their values mean
"""
