"""A CUDA driver (libcuda.so.1) for machines without a GPU, over which the real PyCUDA and the GPU half run unchanged.

Memory is the host's, kernels are those of scene.cu compiled for the processor. It is no emulation of a GPU's speed or
arithmetic: it is strict where CUDA is silent. Work in a stream runs as early or as late as CUDA's rules allow, fresh
and freed memory is noise, what is left behind or used wrongly is a problem that a test asks for, and calls fail when
told to.

driver.h      what the files share: streams and their work, events, memory, the settings of a test
work.cpp      when work runs
streams.cpp   streams, events and graphs as CUDA has them
memory.cpp    memory and copies
contexts.cpp  devices and contexts
kernels.cpp   modules, launches, and scene.cu itself
control.cpp   what a test sets and asks
unsupported.cpp  the rest of what PyCUDA links to
build.py      makes all of it, and PyCUDA
control.py    the same settings and questions from Python
"""
