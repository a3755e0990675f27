"""CUDA C++: kernels written with the project's own library of device code, which also runs on a CPU."""
